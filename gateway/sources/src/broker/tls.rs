//! The broker's side of TLS: certificate, key and, when devices must show one too, the authorities of their
//! certificates. Turns PEM files into what answers a handshake, again whenever the files change; connections that stand
//! keep what they began with. Keeps nothing on disk and has no metrics of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::files::Watched;
use super::settings::BrokerTls;

/// The protocol's name in the handshake (IANA's ALPN registry).
const ALPN: &[u8] = b"mqtt";

/// Certificates or key of the broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// A file cannot be read or holds no such thing.
    #[error("read {what} from {}", path.display())]
    File {
        /// "certificates" or "a private key".
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("read certificates from {}: there is none in it", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// The certificate and the key do not fit, or are of an unknown kind.
    #[error("use certificate {} with key {}", certificate.display(), key.display())]
    Pair {
        /// Which certificate.
        certificate: PathBuf,
        /// Which key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// An authority of the devices cannot be used.
    #[error("trust the authorities in {}", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The authorities of the devices give no way to check a certificate.
    #[error("trust the authorities in {}", path.display())]
    Verifier {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
}

/// What answers handshakes, and the files that it came from.
pub(super) struct ServerTls {
    settings: BrokerTls,
    files: Watched,
    acceptor: TlsAcceptor,
}

impl ServerTls {
    pub(super) fn load(settings: &BrokerTls) -> Result<ServerTls, ServerTlsError> {
        let paths = [Some(&settings.certificate), Some(&settings.key), settings.client_ca.as_ref()];
        // Looked at before they are read: what changes meanwhile is read again.
        let files = Watched::new(paths.into_iter().flatten().cloned().collect());
        Ok(ServerTls { acceptor: acceptor(settings)?, settings: settings.clone(), files })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Reads the files again when they changed. Says whether they did; after an error the old certificate stays.
    pub(super) fn refresh(&mut self) -> Result<bool, ServerTlsError> {
        if !self.files.have_changed() {
            return Ok(false);
        }
        self.acceptor = acceptor(&self.settings)?;
        Ok(true)
    }
}

fn acceptor(settings: &BrokerTls) -> Result<TlsAcceptor, ServerTlsError> {
    let chain = certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(|source| ServerTlsError::File {
        what: "a private key",
        path: settings.key.clone(),
        source,
    })?;
    let builder = match &settings.client_ca {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(authorities(path)?)).build();
            let verifier = verifier.map_err(|source| ServerTlsError::Verifier { path: path.clone(), source })?;
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|source| ServerTlsError::Pair {
        certificate: settings.certificate.clone(),
        key: settings.key.clone(),
        source,
    })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn authorities(path: &Path) -> Result<RootCertStore, ServerTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|source| ServerTlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerTlsError> {
    let failed = |source| ServerTlsError::File { what: "certificates", path: path.to_owned(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if certificates.is_empty() {
        return Err(ServerTlsError::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}

/// Whether a certificate was made out to `name` (a DNS name among its alternative names).
pub(super) fn is_made_out_to(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(certificate), ServerName::try_from(name)) else {
        return false;
    };
    rustls::client::verify_server_name(&parsed, &name).is_ok()
}
