//! As much HTTP/1.1 as a benchmark needs: one request, one answer with a length, on one connection.
//! A full client would take a good part of the time that is measured.

use std::io::{self, ErrorKind, Write as _};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection to one node.
pub(super) struct Connection {
    stream: TcpStream,
    head: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// An answer, borrowed from its connection.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

impl Connection {
    pub(super) async fn open(target: &str, api_key: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        let head = format!(
            "host: {target}\r\nauthorization: Bearer {api_key}\r\n\
             content-type: application/json\r\ncontent-length: "
        );
        Ok(Self {
            stream,
            head,
            request: Vec::with_capacity(1024),
            answer: Vec::with_capacity(4096),
        })
    }

    /// Sends a body and waits for the answer. After an error the connection is of no more use.
    pub(super) async fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Answer<'_>> {
        self.request.clear();
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\n{}{}\r\n\r\n",
            self.head,
            body.len()
        )?;
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some((status, start, length)) = parse(&self.answer)? {
                let end = start + length;
                if end > ANSWER_BYTES_MAX {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "the answer is too long",
                    ));
                }
                while self.answer.len() < end {
                    if self.stream.read_buf(&mut self.answer).await? == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                return Ok(Answer {
                    status,
                    body: &self.answer[start..end],
                });
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "the answer's head is too long",
                ));
            }
        }
    }
}

/// Status, start and length of the body, once the head is whole.
fn parse(answer: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let invalid = |why: String| io::Error::new(ErrorKind::InvalidData, why);
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let start = match response
        .parse(answer)
        .map_err(|error| invalid(error.to_string()))?
    {
        httparse::Status::Complete(start) => start,
        httparse::Status::Partial => return Ok(None),
    };
    let length = response
        .headers
        .iter()
        .find(|h| h.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let length = length.ok_or_else(|| invalid("the answer has no content-length".into()))?;
    Ok(Some((response.code.unwrap_or_default(), start, length)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let answer = b"HTTP/1.1 423 Locked\r\nX: y\r\nContent-Length: 2\r\n\r\n{}";
        for cut in 0..answer.len() - 2 {
            assert_eq!(parse(&answer[..cut]).unwrap(), None);
        }
        assert_eq!(parse(answer).unwrap(), Some((423, answer.len() - 2, 2)));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
