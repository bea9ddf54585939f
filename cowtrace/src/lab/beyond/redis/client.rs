//! Redis' protocol, as far as the experiment needs it: commands out in batches, replies in.
//!
//! A client library would bring some forty crates along, most of them for addresses and text in all the
//! world's scripts; the experiment speaks to a socket of its own making.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

/// A reply that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest reply that is taken for one: INFO has a few kB.
const LONGEST: usize = 1 << 20;

/// One connection.
pub(super) struct Client {
    stream: BufReader<UnixStream>,
    unsent: Vec<u8>,
    awaited: usize,
}

/// What the server answers; a refusal is an error instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A word, or a text.
    Text(String),
    Integer(i64),
    Nothing,
}

impl Client {
    pub fn connect(socket: &Path) -> anyhow::Result<Client> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to the server's socket {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE)).context("cannot limit the wait for a reply")?;
        stream.set_write_timeout(Some(PATIENCE)).context("cannot limit the wait for the server")?;
        Ok(Client { stream: BufReader::new(stream), unsent: Vec::new(), awaited: 0 })
    }

    /// Adds a command to the batch.
    pub fn put(&mut self, words: &[&[u8]]) {
        encode(words, &mut self.unsent);
        self.awaited += 1;
    }

    /// Sends the batch. Gives the last reply; all of them have come then.
    pub fn send(&mut self) -> anyhow::Result<Reply> {
        self.stream.get_mut().write_all(&self.unsent).context("cannot send to the server")?;
        self.unsent.clear();
        let mut last = Reply::Nothing;
        for _ in 0..std::mem::take(&mut self.awaited) {
            last = read_reply(&mut self.stream)?;
        }
        Ok(last)
    }

    /// One command and its reply.
    pub fn command(&mut self, words: &[&str]) -> anyhow::Result<Reply> {
        let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.put(&bytes);
        self.send().with_context(|| format!("the server did not do `{}`", words.join(" ")))
    }

    /// Sends a command after which the server closes the connection.
    pub fn last_command(mut self, words: &[&str]) -> anyhow::Result<()> {
        let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.put(&bytes);
        self.stream.get_mut().write_all(&self.unsent).context("cannot send to the server")
    }
}

fn encode(words: &[&[u8]], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        into.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        into.extend_from_slice(word);
        into.extend_from_slice(b"\r\n");
    }
}

fn read_reply(stream: &mut impl std::io::BufRead) -> anyhow::Result<Reply> {
    let mut line = String::new();
    stream.by_ref().take(LONGEST as u64).read_line(&mut line).context("cannot read the server's reply")?;
    let line = line.strip_suffix("\r\n").context("the server closed the connection")?;
    let kind = line.chars().next().context("the server's reply is empty")?;
    let rest = &line[kind.len_utf8()..];
    match kind {
        '+' => Ok(Reply::Text(rest.to_owned())),
        '-' => bail!("it answered: {rest}"),
        ':' => Ok(Reply::Integer(rest.parse().with_context(|| format!("'{rest}' is no number"))?)),
        '$' if rest == "-1" => Ok(Reply::Nothing),
        '$' => {
            let length: usize = rest.parse().with_context(|| format!("'{rest}' is no length"))?;
            ensure!(length <= LONGEST, "a reply of {length} bytes");
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes).context("cannot read the server's reply")?;
            bytes.truncate(length);
            Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        _ => bail!("a reply that this client does not know: '{line}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lists_of_counted_words() {
        let mut bytes = Vec::new();
        encode(&[b"SET", b"key", b"\r\n"], &mut bytes);
        assert_eq!(bytes, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$2\r\n\r\n\r\n");
    }

    #[test]
    fn replies_are_told_apart_by_their_first_letter() {
        let mut stream: &[u8] = b"+OK\r\n:-7\r\n$5\r\na\r\nbc\r\n$-1\r\n";
        let mut next = || read_reply(&mut stream).unwrap();
        assert_eq!(next(), Reply::Text("OK".into()));
        assert_eq!(next(), Reply::Integer(-7));
        assert_eq!(next(), Reply::Text("a\r\nbc".into()));
        assert_eq!(next(), Reply::Nothing);
        let error = |mut bytes: &[u8]| read_reply(&mut bytes).unwrap_err().to_string();
        assert_eq!(error(b"-ERR no such command\r\n"), "it answered: ERR no such command");
        assert_eq!(error(b""), "the server closed the connection");
        assert!(error(b"$99999999\r\n").contains("99999999 bytes"));
    }
}
