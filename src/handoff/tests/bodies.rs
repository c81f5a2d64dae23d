//! Bodies on their way: streamed, timed, counted, cut.

use super::*;
use crate::handoff::body::BodyError;

#[tokio::test]
async fn in_5_a_body_streams_through_without_its_trailers() {
    let (seen, mut upstream_saw) = mpsc::channel(1);
    let scripted = scripted(move |_, mut stream| {
        let seen = seen.clone();
        async move {
            read_until(&mut stream, "first").await;
            seen.send(()).await.unwrap();
            let rest = read_until(&mut stream, "0\r\n\r\n").await;
            assert!(!rest.contains("x-sum"), "{rest}");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
        }
    })
    .await;
    let (sender, body) = fed();
    let upstream = Arc::clone(&scripted.upstream);
    let answered = tokio::spawn(async move { upstream.forward(request(Method::POST, body), Passage::default()).await });
    sender.send(data("first")).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, upstream_saw.recv()).await;
    assert!(first.is_ok(), "the first part arrives before the second is sent");
    sender.send(data("second")).await.unwrap();
    let trailers = [("x-sum".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    assert_eq!(text(answered.await.unwrap().unwrap()).await, "done");
}

#[tokio::test]
async fn f17_a_client_that_dies_mid_upload_leaves_no_complete_request() {
    let (sender, mut arrived) = mpsc::channel(1);
    let scripted = scripted(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            let mut seen = read_until(&mut stream, "half").await.into_bytes();
            sender.send(String::new()).await.unwrap();
            seen.extend(read_rest(&mut stream).await);
            sender.send(String::from_utf8(seen).unwrap()).await.unwrap();
        }
    })
    .await;
    let (client, body) = fed();
    let upstream = Arc::clone(&scripted.upstream);
    let refused = tokio::spawn(async move { upstream.forward(request(Method::POST, body), Passage::default()).await });
    client.send(data("half")).await.unwrap();
    arrived.recv().await.unwrap();
    client.send(Err("connection reset".into())).await.unwrap();
    assert_eq!(refused.await.unwrap().unwrap_err().reason, Reason::BadRequest);
    let seen = arrived.recv().await.unwrap();
    assert!(seen.ends_with("4\r\nhalf\r\n"), "{seen}");
}

#[tokio::test]
async fn silence_has_a_limit_on_both_sides() {
    let scripted = scripted(|_, mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await
            .unwrap();
        read_rest(&mut stream).await;
    })
    .await;
    let response = scripted.upstream.forward(get(), Passage::default()).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("cut in time");
    assert_eq!(ended.unwrap_err().to_string(), BodyError::Silent.to_string());

    let taciturn = super::scripted(|_, mut stream| async move {
        read_rest(&mut stream).await;
    })
    .await;
    let (_held, body) = fed();
    assert_eq!(refused(&taciturn, request(Method::POST, body)).await, Reason::RequestTimeout);
}

#[tokio::test]
async fn an_upstream_that_stops_reading_is_a_timeout() {
    let scripted = scripted(|_, stream| async move {
        tokio::time::sleep(PATIENCE).await;
        drop(stream);
    })
    .await;
    let (sender, body) = fed();
    let feed = tokio::spawn(async move {
        let block = Bytes::from(vec![b'x'; 1 << 20]);
        while sender.send(Ok(Frame::data(block.clone()))).await.is_ok() {}
    });
    assert_eq!(refused(&scripted, request(Method::POST, body)).await, Reason::UpstreamTimeout);
    feed.abort();
}

#[tokio::test]
async fn a_slow_but_steady_upload_may_take_longer_than_any_single_limit() {
    let scripted = scripted(|_, mut stream| async move {
        read_until(&mut stream, "0\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    let (sender, body) = fed();
    tokio::spawn(async move {
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(80)).await;
            sender.send(data("part")).await.unwrap();
        }
    });
    let response = scripted.upstream.forward(request(Method::POST, body), Passage::default()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn z15_a_body_over_the_limit_is_cut_whether_announced_or_not() {
    let scripted = scripted(|_, mut stream| async move {
        read_rest(&mut stream).await;
    })
    .await;
    let limit = || Passage { max_body: Some(10), ..Passage::default() };
    let announced = request(Method::POST, Body::from("eleven byte".to_owned()));
    let refusal = scripted.upstream.forward(announced, limit()).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::BodyTooLarge);
    assert_eq!(scripted.connections.load(Ordering::SeqCst), 0);
    let (sender, body) = fed();
    let upstream = Arc::clone(&scripted.upstream);
    let refused = tokio::spawn(async move { upstream.forward(request(Method::POST, body), limit()).await });
    while sender.send(data("six...")).await.is_ok() {}
    assert_eq!(refused.await.unwrap().unwrap_err().reason, Reason::BodyTooLarge);
}
