//! Proving an ed25519 key in TLS 1.3: raw public keys (RFC 7250) both ways.
//!
//! A peer's key is its name, so there is nothing for a certificate to say: each side presents its bare public
//! key (a `SubjectPublicKeyInfo`, RFC 8410 §4: always the same 12 bytes before the 32 of the key) and signs the
//! handshake with it. The dialler expects exactly the key it dialled; the other side takes any key, and learns
//! which. No server name is sent, it would tell a listener on the wire whom we dial, and nothing is resumed,
//! so that every connection proves its key anew.

use std::sync::{Arc, OnceLock};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureAlgorithm, SignatureScheme,
};

use crate::{Keypair, PeerId};

/// `SEQUENCE { SEQUENCE { OID 1.3.101.112 } BIT STRING (256 bits, none unused)`: RFC 8410 §4.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const SPKI_BYTES: usize = 44;

fn spki(id: &PeerId) -> [u8; SPKI_BYTES] {
    let mut out = [0; SPKI_BYTES];
    out[..12].copy_from_slice(&SPKI_PREFIX);
    out[12..].copy_from_slice(id.as_bytes());
    out
}

/// The peer that a raw public key names: exactly 44 bytes, exactly this algorithm.
pub(super) fn peer_of(spki: &[u8]) -> Option<PeerId> {
    let key = spki.strip_prefix(&SPKI_PREFIX)?;
    Some(PeerId::from_bytes(key.try_into().ok()?))
}

/// One node's side of every handshake.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    own: Arc<OwnKey>,
    alpn: Vec<u8>,
}

impl Tls {
    /// Proves `keypair`'s key on connections of the network that `alpn` names.
    pub(super) fn new(keypair: Keypair, alpn: Vec<u8>) -> Tls {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let public = CertificateDer::from(spki(&keypair.id()).to_vec());
        let own = OwnKey(Arc::new(CertifiedKey::new(vec![public], Arc::new(Secret(keypair)))));
        Tls { provider, own: Arc::new(own), alpn }
    }

    /// For dialling `peer` and nobody else; who answered instead, if somebody did, is left in the cell.
    pub(super) fn client(&self, peer: PeerId) -> Result<(ClientConfig, Arc<OnceLock<PeerId>>), Error> {
        let other = Arc::new(OnceLock::new());
        let expected = Some((peer, other.clone()));
        let verifier = Verifier { provider: self.provider.clone(), expected };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.own.clone());
        config.alpn_protocols = vec![self.alpn.clone()];
        config.enable_sni = false;
        config.resumption = rustls::client::Resumption::disabled();
        Ok((config, other))
    }

    /// For answering whoever proves a key.
    pub(super) fn server(&self) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Verifier { provider: self.provider.clone(), expected: None }))
            .with_cert_resolver(self.own.clone());
        config.alpn_protocols = vec![self.alpn.clone()];
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Presents our key.
#[derive(Debug)]
struct OwnKey(Arc<CertifiedKey>);

impl ResolvesClientCert for OwnKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn only_raw_public_keys(&self) -> bool {
        true
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for OwnKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

#[derive(Debug, Clone)]
struct Secret(Keypair);

impl SigningKey for Secret {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(spki(&self.0.id()).to_vec()))
    }
}

impl Signer for Secret {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(message).to_vec())
    }
    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// One bare key that has the right shape.
fn sole_key(key: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<PeerId, Error> {
    if !more.is_empty() {
        return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
    }
    peer_of(key).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

fn check_signature(
    provider: &CryptoProvider,
    message: &[u8],
    key: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    if signed.scheme != SignatureScheme::ED25519 {
        return Err(PeerIncompatible::NoSignatureSchemesInCommon.into());
    }
    let key = SubjectPublicKeyInfoDer::from(key.as_ref());
    verify_tls13_signature_with_raw_key(message, &key, signed, &provider.signature_verification_algorithms)
}

/// Checks the other side's key: one peer's for a dialler, anybody's for who is dialled. rustls has a trait for either
/// role; the second passes on to the first what is the same.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Whose key it has to be, and where it is left whose it was instead.
    expected: Option<(PeerId, Arc<OnceLock<PeerId>>)>,
}

impl Verifier {
    fn verify(&self, key: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let found = sole_key(key, more)?;
        match &self.expected {
            Some((peer, other)) if found != *peer => {
                let _ = other.set(found);
                Err(Error::InvalidCertificate(CertificateError::NotValidForName))
            }
            _ => Ok(()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(key, more).map(|()| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(&self.provider, message, key, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(key, more).map(|()| ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, key, signed)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, key, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
    fn requires_raw_public_keys(&self) -> bool {
        ServerCertVerifier::requires_raw_public_keys(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_dialled_key_is_taken() {
        let [ada, bob] = [1, 2].map(|seed| Keypair::from_seed(&[seed; 32]).id());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let other = Arc::default();
        let expect = Verifier { provider, expected: Some((ada, Arc::clone(&other))) };
        let name = ServerName::try_from("peer").unwrap();
        let verify = |key: &[u8], more: &[CertificateDer<'_>]| {
            expect.verify_server_cert(&CertificateDer::from(key), more, &name, &[], UnixTime::now()).is_ok()
        };
        assert!(verify(&spki(&ada), &[]));
        assert!(!verify(&spki(&bob), &[]));
        assert_eq!(other.get(), Some(&bob));
        assert!(!verify(&spki(&ada), &[CertificateDer::from(spki(&bob).to_vec())]), "an intermediate");
        assert!(!verify(&spki(&ada)[..43], &[]));
        assert!(!verify(&[&spki(&ada)[..], &[0]].concat(), &[]));
        assert!(!verify(ada.as_bytes(), &[]));
    }

    #[test]
    fn another_algorithm_is_refused() {
        let mut x25519 = spki(&Keypair::from_seed(&[1; 32]).id());
        x25519[8] = 0x6e;
        assert_eq!(peer_of(&x25519), None);
    }

    proptest! {
        #[test]
        fn garbage_names_nobody(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(id) = peer_of(&bytes) {
                prop_assert_eq!(&spki(&id)[..], &bytes[..]);
            }
        }
    }
}
