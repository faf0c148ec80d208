//! The hub: Hugging Face's HTTP API, as far as downloads need it.
//!
//! A model's files are listed by `/api/models/REPO/revision/REVISION?blobs=true`, and lie below
//! `/REPO/resolve/COMMIT/PATH`, which redirects to another host for large files. Redirects are followed here rather than by
//! the HTTP client, because the token is for the hub alone.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::error::FetchError;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest silence of a server.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit of a listing, in bytes. Repositories with many thousand files stay far below.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// A hub and the token for it.
pub struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// The files of a model at one commit.
pub struct Listing {
    pub commit: String,
    pub files: Vec<RemoteFile>,
}

/// A file on the hub.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// Relative to the model.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// In hexadecimal digits. The hub knows it of large files alone.
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    size: u64,
    sha256: String,
}

impl Hub {
    /// The hub of `HF_ENDPOINT` with the token of `HF_TOKEN`.
    pub fn from_environment() -> Result<Hub, FetchError> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        let is_url = endpoint
            .parse::<Uri>()
            .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some());
        if !is_url {
            let reason = format!("HF_ENDPOINT is {endpoint:?}: expected an address like {DEFAULT_ENDPOINT}");
            return Err(FetchError::Argument(reason));
        }
        // Named, because rustls has no built-in default that all programs agree on.
        let cryptography = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(cryptography);
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .user_agent(concat!("susx-server/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT));
        let token = variable("HF_TOKEN").map(|token| token.trim().to_owned());
        Ok(Hub { agent: config.build().new_agent(), endpoint, token })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The files of a model at a commit, branch or tag.
    pub fn listing(&self, repo: &str, revision: &str) -> Result<Listing, FetchError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if revision.is_empty() || !revision.bytes().all(is_plain) {
            return Err(FetchError::Argument(format!("{revision:?} is not a revision")));
        }
        let escaped = revision.replace('/', "%2F");
        let url = format!("{}/api/models/{repo}/revision/{escaped}?blobs=true", self.endpoint);
        let response = self.get(&url, None, &format!("{repo} at {revision}"))?;
        let mut text = String::new();
        let answer = |reason: String| FetchError::Answer { url: url.clone(), reason };
        let network =
            |reason: std::io::Error| FetchError::Network { url: url.clone(), reason: reason.to_string() };
        let mut body = response.into_body().into_reader().take(MAX_LISTING_BYTES);
        body.read_to_string(&mut text).map_err(network)?;
        let info: ModelInfo = serde_json::from_str(&text).map_err(|error| answer(error.to_string()))?;
        let is_commit =
            (7..=64).contains(&info.sha.len()) && info.sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_commit {
            return Err(answer(format!("the commit is {:?}", info.sha)));
        }
        let file = |sibling: Sibling| {
            let size = sibling.lfs.as_ref().map(|lfs| lfs.size).or(sibling.size);
            let sha256 = sibling.lfs.map(|lfs| lfs.sha256.to_ascii_lowercase());
            let path = sibling.rfilename;
            match size {
                Some(size) => Ok(RemoteFile { path, size, sha256 }),
                None => Err(answer(format!("it does not give the size of {path}"))),
            }
        };
        let files = info.siblings.into_iter().map(file).collect::<Result<_, _>>()?;
        Ok(Listing { commit: info.sha, files })
    }

    /// The content of a file from byte `from` on, or all of it if the server does not serve parts. Also returns where the
    /// content begins.
    pub fn content(
        &self,
        repo: &str,
        commit: &str,
        file: &RemoteFile,
        from: u64,
    ) -> Result<(u64, Content), FetchError> {
        let url = format!("{}/{repo}/resolve/{commit}/{}", self.endpoint, escaped(&file.path));
        let what = format!("{} of {repo} at {commit}", file.path);
        let response = self.get(&url, Some(from).filter(|&from| from > 0), &what)?;
        let begin = match response.status().as_u16() {
            206 => {
                range_start(&response).filter(|&start| start == from).ok_or_else(|| FetchError::Answer {
                    url: url.clone(),
                    reason: format!("expected the part from byte {from} on"),
                })?
            }
            _ => 0,
        };
        Ok((begin, Content { reader: Box::new(response.into_body().into_reader()), url }))
    }

    /// Follows redirects. The token goes to the hub's own host alone.
    fn get(&self, url: &str, from: Option<u64>, what: &str) -> Result<Response<Body>, FetchError> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(from) = from {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            if let Some(token) = self.token.as_deref().filter(|_| origin(&url) == origin(&self.endpoint)) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let failed =
                |error: ureq::Error| FetchError::Network { url: url.clone(), reason: error.to_string() };
            let response = request.call().map_err(failed)?;
            match response.status().as_u16() {
                200 | 206 => return Ok(response),
                301 | 302 | 303 | 307 | 308 => url = redirected(&url, &response)?,
                401 | 403 => return Err(self.refused(what, &response)),
                404 | 410 => return Err(FetchError::Missing(what.to_owned())),
                status => return Err(FetchError::Status { url, status }),
            }
        }
        let reason = "there are more than ten in a row";
        Err(FetchError::Redirect { from: what.to_owned(), to: url, reason })
    }

    fn refused(&self, what: &str, response: &Response<Body>) -> FetchError {
        let reason = response.headers().get("x-error-message").and_then(|reason| reason.to_str().ok());
        FetchError::Refused {
            what: what.to_owned(),
            reason: reason.map(str::to_owned),
            had_token: self.token.is_some(),
        }
    }
}

/// A file's content as it arrives.
pub struct Content {
    reader: Box<dyn Read>,
    url: String,
}

impl Content {
    /// Reads a piece; 0 bytes at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FetchError> {
        let failed =
            |error: std::io::Error| FetchError::Network { url: self.url.clone(), reason: error.to_string() };
        self.reader.read(buffer).map_err(failed)
    }
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_owned(), uri.authority()?.as_str().to_ascii_lowercase()))
}

/// Where a response redirects to.
fn redirected(url: &str, response: &Response<Body>) -> Result<String, FetchError> {
    let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.unwrap_or_default();
    let refused = |reason| FetchError::Redirect { from: url.to_owned(), to: location.to_owned(), reason };
    let Some((scheme, authority)) = origin(url) else { return Err(refused("its address is invalid")) };
    let target = match location.starts_with('/') && !location.starts_with("//") {
        true => format!("{scheme}://{authority}{location}"),
        false => location.to_owned(),
    };
    match origin(&target) {
        Some((to, _)) if scheme == "https" && to != "https" => Err(refused("it leads from https to http")),
        Some((to, _)) if to == "https" || to == "http" => Ok(target),
        _ => Err(refused("its address is invalid")),
    }
}

/// The first byte of a part of a file.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// A path in a URL.
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(escape).collect()
}
