//! Load, and what it costs: keep-alive connections that ask one after the other, and the CPU time that the process
//! under load spent meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Ticks of `/proc/<pid>/stat` in a second; fixed on Linux as user space sees it.
const TICKS: f64 = 100.0;

/// Connections that ask at once.
pub(crate) const CONNECTIONS: usize = 32;

/// Who has not answered by then does not answer any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one run told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Requests that were answered.
    pub(crate) requests: f64,
    /// Requests that were not answered: their connection broke, or fell silent.
    pub(crate) broken: usize,
    /// User and system time of the process for one request, in microseconds.
    pub(crate) cpu_micros: f64,
    /// Requests in a second.
    pub(crate) rate: f64,
    /// Half of the requests took no longer, in microseconds.
    pub(crate) p50: f64,
    /// 99 of 100 requests took no longer, in microseconds.
    pub(crate) p99: f64,
}

/// The middle one of these.
pub(crate) fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What is asked, of whom, how often at once and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    /// Each connection has its own share of them and asks one after the other, over and over.
    pub(crate) requests: &'a [String],
    /// How far each connection has come in its share; the next run goes on there.
    pub(crate) cursors: &'a [AtomicUsize; CONNECTIONS],
    pub(crate) time: Duration,
}

impl Load<'_> {
    /// Runs the load once and looks at what process `pid` spent.
    pub(crate) fn run(&self, pid: u32) -> Run {
        let before = cpu_seconds(pid);
        let begun = Instant::now();
        let told: Vec<_> = thread::scope(|scope| {
            let askers: Vec<_> =
                self.cursors.iter().enumerate().map(|asker| scope.spawn(move || self.ask(asker))).collect();
            askers.into_iter().map(|asker| asker.join().unwrap()).collect()
        });
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = cpu_seconds(pid) - before;
        let broken = told.iter().map(|(_, broken)| broken).sum();
        let mut micros: Vec<u32> = told.into_iter().flat_map(|(took, _)| took).collect();
        micros.sort_unstable();
        let count = micros.len();
        let percentile = |part: usize| micros.get(count * part / 100).copied().unwrap_or_default().into();
        Run {
            requests: count as f64,
            broken,
            cpu_micros: cpu * 1e6 / count as f64,
            rate: count as f64 / seconds,
            p50: percentile(50),
            p99: percentile(99),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One connection: how long each answer took, in microseconds, and how often it broke and was made anew.
    fn ask(&self, (asker, cursor): (usize, &AtomicUsize)) -> (Vec<u32>, usize) {
        let (mut stream, mut broken) = (self.connect(), 0);
        let share = self.requests.len() / CONNECTIONS;
        let own = asker * share..(asker + 1) * share;
        let requests = if share == 0 { self.requests } else { self.requests.get(own).unwrap() };
        let next = || requests.get(cursor.fetch_add(1, Ordering::Relaxed) % requests.len()).unwrap().as_bytes();
        let mut answer = first_answer(&mut stream, next());
        let status = answer.split(|byte| *byte == b'\n').next().unwrap().to_vec();
        assert!(status.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
        let mut took = Vec::with_capacity(1 << 18);
        let begun = Instant::now();
        while begun.elapsed() < self.time {
            let asked = Instant::now();
            // All answers are alike but for the date, so that their length is known.
            if stream.write_all(next()).and_then(|()| stream.read_exact(&mut answer)).is_err() {
                (stream, broken) = (self.connect(), broken + 1);
                continue;
            }
            assert!(answer.starts_with(&status), "{}", String::from_utf8_lossy(&answer));
            took.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        (took, broken)
    }
}

/// The first answer, head and body, to learn its length.
pub(crate) fn first_answer(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return seen;
            }
        }
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed after {text:?}");
        seen.extend_from_slice(buffer.get(..read).unwrap());
    }
}

/// The first value of a header in the text of a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// User and system time so far, of a process and of those that it has begun.
fn cpu_seconds(pid: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    own_cpu_seconds(pid) + children.map(own_cpu_seconds).sum::<f64>()
}

fn own_cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field is the name in parentheses, which may hold blanks; fields 14 and 15 are the times.
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks = rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap());
    ticks.sum::<f64>() / TICKS
}
