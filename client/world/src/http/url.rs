//! URLs as Glint has them: `http://host:port`, nothing more.

use std::{fmt, str::FromStr};

/// Where a master or server answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Url {
    authority: String,
}

/// A text that is no such URL; its message says what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the URL of a master or server: {1}; give one such as http://127.0.0.1:7100")]
pub struct UrlError(String, &'static str);

impl Url {
    /// `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let error = |why| Err(UrlError(text.to_owned(), why));
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return error("TLS is not supported"),
            Some(_) => return error("only http:// is supported"),
            None => return error("http:// is missing"),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        // It goes into the head of every request.
        let plain = authority.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || !plain || authority.contains(['/', '?', '#', '@']) {
            return error("it must be a host and a port alone");
        }
        let port = authority
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        match port {
            Some((host, Ok(port))) if !host.is_empty() && port != 0 => Ok(Self {
                authority: authority.to_owned(),
            }),
            Some((_, Err(_))) if authority.ends_with(']') => Ok(Self {
                authority: format!("{authority}:80"),
            }),
            None => Ok(Self {
                authority: format!("{authority}:80"),
            }),
            _ => error("its port is no number from 1 to 65535"),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_http_host_and_port() {
        for (text, authority) in [
            ("http://127.0.0.1:7100", "127.0.0.1:7100"),
            (
                "http://glint-master.training.svc:7100/",
                "glint-master.training.svc:7100",
            ),
            ("http://master", "master:80"),
            ("http://[::1]:7100", "[::1]:7100"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().authority(), authority);
        }
        for text in [
            "",
            "127.0.0.1:7100",
            "https://m:1",
            "ftp://m:1",
            "http://",
            "http://m:x",
            "http://m:0",
            "http://:1",
            "http://m:1/path",
            "http://m n:1",
            "http://m\r\nx:1",
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains("http://127.0.0.1:7100"), "{error}");
        }
    }
}
