//! Making a connection: to the server itself, or to whatever the Sentinels call the master.

use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo,
    RedisError, TlsCertificates, TlsMode,
};

use crate::config::{Redis, Secret, Servers};

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(2);

/// Connects as `options` say. What the server sends unasked goes to `hears`; an answer may take as long as `silence`.
pub(super) async fn dial(
    options: &Redis,
    hears: impl AsyncPushSender,
    silence: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECTING))
        .set_response_timeout(Some(silence))
        .set_push_sender(hears);
    let (host, port) = match &options.servers {
        Servers::Sentinels(sentinels, master) => return behind(options, (sentinels, master), &config).await,
        Servers::One(host, port) => (host, *port),
        Servers::Unix(path) => {
            let info = ConnectionAddr::Unix(path.clone()).into_connection_info()?.set_redis_settings(login(options));
            return Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await;
        }
    };
    let info = address(options, host, port).into_connection_info()?.set_redis_settings(login(options));
    let client = match &options.ca {
        Some(_) => Client::build_with_tls(info, certificates(options))?,
        None => Client::open(info)?,
    };
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// Asks the Sentinels for the master, which they make sure of, and connects to it.
async fn behind(
    options: &Redis,
    (sentinels, master): (&[(String, u16)], &str),
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let sentinels = sentinels.iter().map(|(host, port)| address(options, host, *port));
    let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
        .set_client_to_redis_db(options.database)
        .set_client_to_redis_protocol(ProtocolVersion::RESP3);
    if let Some(user) = &options.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &options.password {
        builder = builder.set_client_to_redis_password(password.expose());
    }
    if let Some(user) = &options.sentinel_user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = &options.sentinel_password {
        builder = builder.set_client_to_sentinel_password(password.expose());
    }
    if options.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates(options))
            .set_client_to_sentinel_certificates(certificates(options));
    }
    builder.build()?.get_async_connection_with_config(config).await
}

fn address(options: &Redis, host: &str, port: u16) -> ConnectionAddr {
    if options.tls {
        ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host.to_owned(), port)
    }
}

fn login(options: &Redis) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default().set_db(options.database).set_protocol(ProtocolVersion::RESP3);
    if let Some(user) = &options.user {
        info = info.set_username(user);
    }
    if let Some(password) = options.password.as_ref().map(Secret::expose) {
        info = info.set_password(password);
    }
    info
}

fn certificates(options: &Redis) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert: options.ca.as_ref().map(|pem| pem.to_vec()) }
}
