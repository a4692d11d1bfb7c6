//! The console's certificate: self-signed at first, until an operator brings another one.

use control::handle::Handle;
use control::state::Refusal;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// Where the store has the chain and the key, as PEM.
const PLACE: &str = "console certificate";

/// A certificate that the console can serve with.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// What connections are accepted with.
    pub config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, for people to compare.
    pub fingerprint: String,
}

impl Certificate {
    /// The stored certificate; a self-signed one is made and stored when there is none.
    ///
    /// # Errors
    /// When the store fails, or what it has is damaged.
    pub async fn load_or_make(handle: &Handle, names: Vec<String>) -> Result<Self, Refusal> {
        if let Some(pem) = handle.identity(PLACE).await? {
            return Self::of_pem(&pem).map_err(Refusal::Store);
        }
        let pem = self_signed(names).map_err(|error| Refusal::Store(error.to_string()))?;
        handle.keep_identity(PLACE, pem.clone().into_bytes()).await?;
        Self::of_pem(pem.as_bytes()).map_err(Refusal::Store)
    }

    /// Reads a chain and its key.
    ///
    /// # Errors
    /// Says what is missing or does not fit.
    pub fn of_pem(pem: &[u8]) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the certificate cannot be read: {error}"))?;
        let own = chain.first().ok_or("there is no certificate in it")?;
        let fingerprint = written(own);
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|error| format!("the private key cannot be read: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| format!("certificate and key do not fit: {error}"))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), fingerprint })
    }
}

fn written(certificate: &CertificateDer<'_>) -> String {
    let print = control::access::fingerprint(certificate);
    print.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Ten years: browsers ask about it in any case, and a date that passes would lock everybody out.
fn self_signed(names: Vec<String>) -> Result<String, rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Viaduct console");
    let year = i32::from(jiff::Zoned::now().year());
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + 10, 1, 1);
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_made_here_can_be_served_with() {
        let pem = self_signed(vec!["lb1".into(), "192.0.2.1".into()]).expect("made");
        let read = Certificate::of_pem(pem.as_bytes()).expect("good");
        assert_eq!(read.fingerprint.len(), 32 * 3 - 1);
    }

    #[test]
    fn what_is_missing_is_named() {
        let pem = self_signed(vec!["lb1".into()]).expect("made");
        let key = pem.find("-----BEGIN PRIVATE").expect("has a key");
        let no_key = Certificate::of_pem(&pem.as_bytes()[..key]).expect_err("no key");
        assert!(no_key.contains("private key"), "{no_key}");
        let no_chain = Certificate::of_pem(&pem.as_bytes()[key..]).expect_err("no certificate");
        assert!(no_chain.contains("no certificate"), "{no_chain}");
        let other = self_signed(vec!["lb2".into()]).expect("made");
        let mixed =
            format!("{}{}", &other[..other.find("-----BEGIN PRIVATE").expect("key")], &pem[key..]);
        let mixed = Certificate::of_pem(mixed.as_bytes()).expect_err("they do not fit");
        assert!(mixed.contains("do not fit"), "{mixed}");
    }
}
