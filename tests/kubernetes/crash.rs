//! crash-after-each-call LOG OPERATOR: runs the operator against the API server, and kills it whenever a change that it has
//! asked for is done, before it hears of that, until the standard input ends. LOG has a line for each. Some requests are not
//! passed on, but answered with an error, as by an API server that has too much to do or fails: LOG has a line for each of
//! those, too, that begins with `refused`.
//!
//! It is a proxy between the operator and `kubectl proxy`, which brings the credentials; one request per connection.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The operator that runs now.
struct Operator {
    program: String,
    access: String,
    process: Mutex<Child>,
    /// What it reads from the API server: its end is that of all of it, or what nobody reads any more would fill the
    /// connection to the API server, which takes some hundred requests at once.
    reads: Mutex<Vec<TcpStream>>,
    log: Mutex<File>,
    /// Requests so far, changes and others.
    requests: [AtomicUsize; 2],
}

impl Operator {
    fn start(program: &str, access: &str) -> io::Result<Child> {
        Command::new(program)
            .args([
                "run",
                "--image",
                "glint:0.1.0",
                "--namespace",
                "glint-system",
            ])
            .args([
                "--identity",
                "crashing",
                "--lease",
                "",
                "--listen",
                "127.0.0.1:0",
            ])
            .env("KUBECONFIG", access)
            .stdin(Stdio::null())
            .spawn()
    }

    /// The change is done: there is another operator from now on.
    fn crash(&self, what: &str) -> io::Result<()> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.kill()?;
        process.wait()?;
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        for read in reads.drain(..) {
            // One that has ended by itself is closed already.
            let _ = read.shutdown(Shutdown::Both);
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(log, "{what}")?;
        *process = Self::start(&self.program, &self.access)?;
        Ok(())
    }

    /// Whether a request is not to be passed on, and with what it is answered. Every fourth change, so that one that is
    /// refused is tried again and then done; of what is read, few, since each operator begins by reading everything.
    fn refusal(&self, what: &str, is_change: bool) -> io::Result<Option<&'static str>> {
        let number = self.requests[usize::from(is_change)].fetch_add(1, Ordering::Relaxed);
        let (among, every) = if is_change { (number, 4) } else { (number, 53) };
        if among % every != every - 1 {
            return Ok(None);
        }
        let answer = if among / every % 2 == 0 {
            "500 Internal Server Error\r\n"
        } else {
            "429 Too Many Requests\r\nRetry-After: 1\r\n"
        };
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(log, "refused {} {what}", &answer[..3])?;
        Ok(Some(answer))
    }
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(log), Some(program)) = (arguments.next(), arguments.next()) else {
        return Err("usage: crash-after-each-call LOG OPERATOR".into());
    };
    let (mut proxy, upstream) = kubectl_proxy()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let access = format!("{log}.access");
    let server = format!("http://{}", listener.local_addr()?);
    fs::write(
        &access,
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: '{server}'}}}}], \
             users: [{{name: c, user: {{}}}}], contexts: [{{name: c, context: {{cluster: c, user: c}}}}]}}"
        ),
    )?;
    let operator = Arc::new(Operator {
        process: Mutex::new(Operator::start(&program, &access)?),
        reads: Mutex::default(),
        log: Mutex::new(File::create(&log)?),
        requests: [AtomicUsize::new(0), AtomicUsize::new(0)],
        program,
        access,
    });
    let accepting = Arc::clone(&operator);
    thread::spawn(move || accept(&listener, &upstream, &accepting));
    // Until whoever has started this ends, or has had enough.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let mut process = operator
        .process
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    process.kill()?;
    process.wait()?;
    proxy.kill()?;
    proxy.wait()?;
    // The lock is held to the end: no other operator begins.
    std::process::exit(0)
}

fn accept(listener: &TcpListener, upstream: &str, operator: &Arc<Operator>) {
    for connection in listener.incoming().flatten() {
        let (operator, upstream) = (Arc::clone(operator), upstream.to_owned());
        thread::spawn(move || {
            // A connection that breaks is what a crash looks like.
            let _ = pass(&connection, &upstream, &operator);
        });
    }
}

/// Starts `kubectl proxy`, and says where it listens.
fn kubectl_proxy() -> Result<(Child, String)> {
    let mut proxy = Command::new("kubectl")
        .args(["proxy", "--port=0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let out = proxy.stdout.take().ok_or("no output")?;
    BufReader::new(out).read_line(&mut said)?;
    let address = said.trim().rsplit(' ').next().unwrap_or_default();
    Ok((proxy, address.to_owned()))
}

/// Passes one request on, and its answer back, unless it is the answer to a change.
fn pass(connection: &TcpStream, upstream: &str, operator: &Operator) -> Result<()> {
    let mut from = BufReader::new(connection);
    let (mut head, mut length, mut line) = (Vec::new(), 0, String::new());
    from.read_line(&mut line)?;
    let what = line.trim().to_owned();
    while !line.trim().is_empty() {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if !lower.starts_with("connection:") {
            head.extend_from_slice(line.as_bytes());
        }
        line.clear();
        from.read_line(&mut line)?;
    }
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;

    let is_change = ["POST ", "PUT ", "PATCH ", "DELETE "]
        .iter()
        .any(|verb| what.starts_with(verb));
    if let Some(answer) = operator.refusal(&what, is_change)? {
        let code = &answer[..3];
        let status = format!(
            r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not now","reason":"Refused","code":{code}}}"#
        );
        let mut to = connection;
        write!(
            to,
            "HTTP/1.1 {answer}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{status}",
            status.len()
        )?;
        return Ok(());
    }
    let mut there = TcpStream::connect(upstream)?;
    there.write_all(&head)?;
    there.write_all(&body)?;
    if is_change {
        let mut status = String::new();
        BufReader::new(there).read_line(&mut status)?;
        return Ok(operator.crash(&format!("{} {what}", status.trim()))?);
    }
    let mut reads = operator
        .reads
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    reads.push(there.try_clone()?);
    drop(reads);
    io::copy(&mut there, &mut &*connection)?;
    Ok(())
}
