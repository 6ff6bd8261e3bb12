//! bcoin, a full node of Bitcoin's, in a process of its own.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Folder, Kill, free_port, listens};

/// Whom it pays what it mines.
const MINER: &str = "RQDAFMiWw5Wz3abi6sEibmTZKrGuzEPCHz";

/// A node of a regression-test network, in memory.
pub struct Bcoin {
    _child: Kill,
    _folder: Folder,
    pub node: SocketAddr,
    http: SocketAddr,
}

impl Bcoin {
    pub async fn start() -> Bcoin {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules/bcoin/bin/node");
        assert!(program.exists(), "bcoin is missing: run interop/setup");
        let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (folder, node, http) = (Folder::new(), here(free_port()), here(free_port()));
        let child = Command::new("node")
            .arg(program)
            .arg(format!("--prefix={}", folder.0.display()))
            .args([format!("--port={}", node.port()), format!("--http-port={}", http.port())])
            .args([
                "--network=regtest",
                "--memory=true",
                "--workers=false",
                "--listen=true",
                "--host=127.0.0.1",
            ])
            .args([
                "--http-host=127.0.0.1",
                "--api-key=t",
                "--no-wallet=true",
                "--upnp=false",
                "--max-outbound=1",
            ])
            .args(["--bip37=true", "--index-tx=true", "--index-address=true"])
            .env("NODE_BACKEND", "js")
            .stdout(Stdio::null())
            .spawn();
        let bcoin = Bcoin {
            _child: Kill(child.expect("node is missing: run interop/setup")),
            _folder: folder,
            node,
            http,
        };
        listens(bcoin.http).await;
        listens(bcoin.node).await;
        bcoin
    }

    pub async fn ask(&self, method: &str, params: Value) -> Value {
        let body = json!({ "method": method, "params": params }).to_string();
        let (host, len) = (self.http, body.len());
        // `x:t`, as basic authentication has it.
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic eDp0\r\nContent-Type: application/json\r\n\
             Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let from = answer.find("\r\n\r\n").map_or(0, |end| end + 4);
        // One value, in chunks or not.
        let (from, to) = (answer[from..].find('{').unwrap() + from, answer.rfind('}').unwrap());
        let answer: Value = serde_json::from_str(&answer[from..=to]).unwrap();
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    pub async fn mine(&self, blocks: u32) {
        self.ask("generatetoaddress", json!([blocks, MINER])).await;
    }

    pub async fn best(&self) -> String {
        self.ask("getbestblockhash", json!([])).await.as_str().unwrap().into()
    }

    /// The name of the block at a height.
    pub async fn block_at(&self, height: u64) -> String {
        self.ask("getblockhash", json!([height])).await.as_str().unwrap().into()
    }
}
