//! One run of `git http-backend`, by the rules of CGI (RFC 3875).

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::front::{Answer, Body, Served};
use crate::repo::isolated;

/// Answers `request` from the repositories in `root`. `user` is who the client has proved to be.
pub(crate) async fn git_http_backend(
    root: &Path,
    user: Option<&str>,
    settings: &[(&str, &str)],
    request: Served,
) -> Answer {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let mut command = Command::from(isolated(&root.join("home")));
    command.arg("http-backend").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("GATEWAY_INTERFACE", "CGI/1.1");
    command
        .env("REQUEST_METHOD", head.method.as_str())
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("SERVER_PROTOCOL", "HTTP/1.1");
    command.env("PATH_INFO", head.uri.path()).env("QUERY_STRING", head.uri.query().unwrap_or_default());
    for (variable, name) in [
        ("CONTENT_TYPE", "content-type"),
        ("CONTENT_LENGTH", "content-length"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("GIT_PROTOCOL", "git-protocol"),
    ] {
        if let Some(value) = header(name) {
            command.env(variable, value);
        }
    }
    if let Some(user) = user {
        command.env("REMOTE_USER", user);
    }
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (index, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{index}"), key).env(format!("GIT_CONFIG_VALUE_{index}"), value);
    }
    let mut child = command.spawn().context("run git http-backend")?;
    let stdin = child.stdin.take().context("stdin is piped")?;
    let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
    // At the same time: the backend may answer before it has read everything.
    tokio::spawn(feed(body, stdin));
    let mut response = hyper::Response::builder();
    let mut lines = 0;
    loop {
        let mut line = String::new();
        stdout.read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines += 1;
        let (name, value) = line.split_once(": ").with_context(|| format!("not a CGI header: {line}"))?;
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap_or(value)),
            _ => response.header(name, value),
        };
    }
    if lines == 0 {
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut said).await?;
        }
        bail!("git http-backend gave no answer: {said}");
    }
    Ok(response.body(rest(child, stdout))?)
}

async fn feed(mut body: Body, mut stdin: ChildStdin) -> Result<()> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            stdin.write_all(&data).await?;
        }
    }
    stdin.shutdown().await?;
    Ok(())
}

/// What the backend writes after its headers. Dropped, it ends the backend.
fn rest(child: Child, stdout: BufReader<ChildStdout>) -> Body {
    let pieces = stream::unfold(Some((child, stdout)), |state| async {
        let (mut child, mut stdout) = state?;
        let mut piece = Vec::with_capacity(16 * 1024);
        match stdout.read_buf(&mut piece).await {
            Ok(0) => match ended(&mut child).await {
                Ok(()) => None,
                Err(error) => Some((Err(error), None)),
            },
            Ok(_) => Some((Ok(Frame::data(Bytes::from(piece))), Some((child, stdout)))),
            Err(error) => Some((Err(error.into()), None)),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

async fn ended(child: &mut Child) -> Result<()> {
    let status = child.wait().await?;
    ensure!(status.success(), "git http-backend ended with {status}");
    Ok(())
}
