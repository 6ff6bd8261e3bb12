//! The secret in a file, under a password.
//!
//! The password is stretched by Argon2id (RFC 9106: three passes over 64 MiB, its second recommendation but for the lanes),
//! and the secret sealed with what comes of it by XChaCha20-Poly1305, together with how many keys were given out and the
//! payments that are in no block. The file's head, salt and costs among it, is sealed too: nobody can make it cheaper unnoticed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::Wallet;
use crate::codec::{Encode, Reader, put_list};
use crate::transaction::Transaction;

const MAGIC: &[u8; 20] = b"p2p-ledger wallet 1\n";
const SALT: usize = 16;
const NONCE: usize = 24;
const HEAD: usize = MAGIC.len() + 3 * 4 + SALT + NONCE;
/// How many payments that are in no block are written down: the last.
const MAX_PENDING: usize = 1_000;
/// Argon2's memory in KiB, passes and lanes.
const COST: [u32; 3] = [64 << 10, 3, 1];
/// What a file may ask for at most.
const MOST: [u32; 3] = [1 << 20, 16, 4];

/// Why a wallet's file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum WalletFileError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another has it open.
    #[error("{} is in use: let the other program that has it open end first", .0.display())]
    InUse(PathBuf),
    /// It is no wallet.
    #[error("{} is not a wallet's file", .0.display())]
    NotAWallet(PathBuf),
    /// The password is not the one, or the file has been changed.
    #[error("the password is not that of {}, or the file is damaged", .0.display())]
    Password(PathBuf),
    /// It is for another chain.
    #[error("{} is a wallet for chain {found}, not for chain {expected}", path.display())]
    Chain {
        /// The file.
        path: PathBuf,
        /// The chain that was expected.
        expected: u32,
        /// The file's.
        found: u32,
    },
}

/// A wallet's file, unlocked, and nobody else's as long as this is there: beside it is an empty file, PATH.lock, which is locked.
///
/// ```
/// use p2p_ledger::{Wallet, WalletFile};
///
/// let path = std::env::temp_dir().join(format!("p2p-ledger-doc-{}.wallet", std::process::id()));
/// let mut wallet = Wallet::generate(1, 100);
/// let file = WalletFile::create(&path, "a password", &wallet).unwrap();
/// let address = wallet.receive();
/// file.save(&wallet).unwrap();
/// assert!(WalletFile::open(&path, "a password", 1, 100).is_err(), "it is in use");
/// drop(file);
///
/// let (_, again) = WalletFile::open(&path, "a password", 1, 100).unwrap();
/// assert_eq!(again.given(), 1);
/// assert!(WalletFile::open(&path, "another password", 1, 100).is_err());
/// # std::fs::remove_file(&path).unwrap();
/// # std::fs::remove_file(path.with_extension("wallet.lock")).unwrap();
/// ```
pub struct WalletFile {
    path: PathBuf,
    salt: [u8; SALT],
    cost: [u32; 3],
    key: Zeroizing<[u8; 32]>,
    /// Held while this is there.
    _lock: fs::File,
}

impl WalletFile {
    /// Makes a file for a wallet. It takes most of a second, as does everybody who tries a password.
    ///
    /// # Errors
    /// There is a file, or it cannot be written.
    pub fn create(
        path: impl AsRef<Path>,
        password: &str,
        wallet: &Wallet,
    ) -> Result<WalletFile, WalletFileError> {
        WalletFile::make(path.as_ref().to_owned(), password, wallet, COST)
    }

    /// The same with other costs.
    pub(super) fn make(
        path: PathBuf,
        password: &str,
        wallet: &Wallet,
        cost: [u32; 3],
    ) -> Result<WalletFile, WalletFileError> {
        let is_free = || match path.try_exists() {
            Ok(false) => Ok(()),
            Ok(true) => Err(failed(&path, io::ErrorKind::AlreadyExists.into())),
            Err(source) => Err(failed(&path, source)),
        };
        is_free()?;
        // Nobody else makes one there meanwhile; and there is none until it is whole.
        let lock = locked(&path)?;
        is_free()?;
        let salt = random();
        let key = stretched(password, &salt, cost).ok_or_else(|| out_of_memory(&path))?;
        let file = WalletFile { path: path.clone(), salt, cost, key, _lock: lock };
        file.save(wallet)?;
        Ok(file)
    }

    /// Opens a wallet's file; the wallet knows of no block.
    ///
    /// # Errors
    /// It cannot be read, the password is not the one, or it is for another chain.
    pub fn open(
        path: impl AsRef<Path>,
        password: &str,
        chain: u32,
        maturity: u64,
    ) -> Result<(WalletFile, Wallet), WalletFileError> {
        let path = path.as_ref().to_owned();
        // Or a lock would be left where there is no wallet.
        fs::metadata(&path).map_err(|source| failed(&path, source))?;
        let lock = locked(&path)?;
        let bytes = fs::read(&path).map_err(|source| failed(&path, source))?;
        let Some((cost, salt, nonce)) = head(&bytes) else { return Err(WalletFileError::NotAWallet(path)) };
        let key = stretched(password, &salt, cost).ok_or_else(|| out_of_memory(&path))?;
        let sealed = Payload { msg: &bytes[HEAD..], aad: &bytes[..HEAD] };
        let opened = XChaCha20Poly1305::new((&*key).into()).decrypt(&XNonce::from(nonce), sealed);
        let opened = opened.map(Zeroizing::new).map_err(|_| WalletFileError::Password(path.clone()))?;
        let read = || {
            let mut input = Reader::new(&opened);
            let secret = Zeroizing::new(input.array::<32>().ok()?);
            let (chain, given) = (input.u32().ok()?, input.u32().ok()?);
            let earlier = input.list::<Transaction>(MAX_PENDING).ok()?;
            (input.left() == 0).then_some((secret, chain, given, earlier))
        };
        let Some((secret, found, given, earlier)) = read() else {
            return Err(WalletFileError::NotAWallet(path));
        };
        if found != chain {
            return Err(WalletFileError::Chain { path, expected: chain, found });
        }
        let mut wallet = Wallet::with_given(secret, chain, maturity, given);
        wallet.earlier = earlier;
        Ok((WalletFile { path, salt, cost, key, _lock: lock }, wallet))
    }

    /// Writes down how many keys the wallet has given out and which payments are in no block: do so before anybody is given
    /// the last of either.
    ///
    /// # Errors
    /// It cannot be written; what was there still is.
    pub fn save(&self, wallet: &Wallet) -> Result<(), WalletFileError> {
        let pending: Vec<Transaction> = wallet.earlier.iter().chain(&wallet.pending).cloned().collect();
        let pending = &pending[pending.len().saturating_sub(MAX_PENDING)..];
        let bytes: usize = pending.iter().map(|one| one.to_bytes().len()).sum();
        // Of one piece: what is outgrown is not wiped.
        let mut opened = Zeroizing::new(Vec::with_capacity(48 + bytes));
        opened.extend_from_slice(&*wallet.secret);
        opened.extend_from_slice(&wallet.chain.to_le_bytes());
        opened.extend_from_slice(&wallet.given.to_le_bytes());
        put_list(&mut opened, pending);
        let nonce = random::<NONCE>();
        let mut bytes = MAGIC.to_vec();
        self.cost.iter().for_each(|cost| bytes.extend_from_slice(&cost.to_le_bytes()));
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&nonce);
        let sealed = Payload { msg: &opened, aad: &bytes };
        let cipher = XChaCha20Poly1305::new((&*self.key).into());
        let sealed = cipher.encrypt(&XNonce::from(nonce), sealed).expect("a few kilobytes can be sealed");
        bytes.extend_from_slice(&sealed);
        write(&self.path, &bytes).map_err(|source| failed(&self.path, source))
    }
}

/// The costs, salt and nonce of a file.
fn head(bytes: &[u8]) -> Option<([u32; 3], [u8; SALT], [u8; NONCE])> {
    let mut input = Reader::new(bytes);
    (input.array().ok()? == *MAGIC).then_some(())?;
    let cost = [input.u32().ok()?, input.u32().ok()?, input.u32().ok()?];
    let bounded = cost.iter().zip(MOST).all(|(cost, most)| (1..=most).contains(cost));
    bounded.then_some((cost, input.array().ok()?, input.array().ok()?))
}

fn stretched(password: &str, salt: &[u8], [memory, passes, lanes]: [u32; 3]) -> Option<Zeroizing<[u8; 32]>> {
    let params = Params::new(memory, passes, lanes, Some(32)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(password.as_bytes(), salt, &mut *key).ok()?;
    Some(key)
}

fn out_of_memory(path: &Path) -> WalletFileError {
    failed(path, io::ErrorKind::OutOfMemory.into())
}

fn failed(path: &Path, source: io::Error) -> WalletFileError {
    WalletFileError::Io { path: path.to_owned(), source }
}

/// How a file that is its owner's alone is written.
fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A file's name with more at its end.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Takes the lock of a wallet's file.
fn locked(path: &Path) -> Result<fs::File, WalletFileError> {
    let lock = beside(path, ".lock");
    let file = private().create(true).truncate(false).open(&lock).map_err(|source| failed(&lock, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(WalletFileError::InUse(path.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(failed(&lock, source)),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives no random numbers");
    bytes
}

/// All of it or nothing, for its owner alone. Who writes has the lock.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // One that was left when somebody was interrupted.
        Ok(()) | Err(_) => {}
    }
    let mut file = private().create_new(true).open(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
        return written;
    }
    // The name is to stay too.
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::OpenOptions::new().read(true).open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

impl std::fmt::Debug for WalletFile {
    /// Nothing of its key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WalletFile({})", self.path.display())
    }
}
