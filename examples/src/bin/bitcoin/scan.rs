//! `scan`: what pays to some scripts, and what spends that.

use std::collections::BTreeMap;

use p2p_core::Key;
use p2p_examples::{Failure, say};
use p2p_ledger::bitcoin::{BitcoinBlock, BitcoinNetwork, HeaderAt, Scan};
use p2p_ledger::{Header, Mark, OutPoint, Scanned};
use serde_json::json;

use super::{Part, Session};

/// The script of an output: as an address of the network, or in hexadecimal digits.
fn script(network: &BitcoinNetwork, text: &str) -> Result<Vec<u8>, Failure> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    match bytes.filter(|bytes| !bytes.is_empty()) {
        Some(bytes) => Ok(bytes),
        None => network.script_of(text).map_err(|why| format!("{text}: {why}").into()),
    }
}

/// Prints what pays to these from a block on, and what spends that, as it is found.
pub(crate) async fn scan(part: &Part, scripts: &[String], from: u64) -> Result<(), Failure> {
    let (network, _) = part.network.details();
    let scripts = scripts.iter().map(|text| script(&network, text));
    let scripts: Vec<Vec<u8>> = scripts.collect::<Result<_, _>>()?;
    let mut session = Session::start(part).await?;
    session.synced().await?;
    let client = session.client.clone();
    let mut after = Mark::START;
    if let Some(height) = from.checked_sub(1).filter(|height| *height > 0) {
        let before = client.ask(HeaderAt(height)).await?;
        let before = before.ok_or_else(|| format!("there is no block {height} yet"))?;
        after = Mark { height, id: before.id(), filters: Key::ZERO };
    }
    let mut paid = BTreeMap::new();
    loop {
        let next = client.ask(Scan { after, scripts: scripts.clone() });
        match session.meanwhile(next).await??? {
            Scanned::Found(mark, block) => {
                part.tell_block(mark.height, &block, &scripts, &mut paid);
                after = mark;
            }
            Scanned::End(mark) => {
                part.tell_end(&mark, paid.values().fold(0u64, |sum, value| sum.saturating_add(*value)));
                return Ok(());
            }
            Scanned::Gone => {
                return Err("the chain has gone over to another branch meanwhile: scan again".into());
            }
        }
    }
}

impl Part {
    /// Prints what a block pays to these scripts, and spends of what was paid to them.
    fn tell_block(
        &self,
        height: u64,
        block: &BitcoinBlock,
        scripts: &[Vec<u8>],
        paid: &mut BTreeMap<OutPoint, u64>,
    ) {
        for one in &block.transactions {
            let id = one.id();
            for input in &one.inputs {
                let OutPoint { id: of, index } = input.previous;
                let Some(value) = paid.remove(&input.previous) else { continue };
                match self.json {
                    true => {
                        let output = json!({ "transaction": of.to_string(), "output": index });
                        let said = json!({ "spent": output, "value": value, "by": id.to_string(), "height": height });
                        println!("{said}");
                    }
                    false => say("spent", format_args!("{value} {of}:{index} at {height} by {id}")),
                }
            }
            for (output, index) in one.outputs.iter().zip(0..) {
                if !scripts.contains(&output.script) {
                    continue;
                }
                paid.insert(OutPoint { id, index }, output.value);
                match self.json {
                    true => {
                        let to = json!({ "transaction": id.to_string(), "output": index });
                        println!("{}", json!({ "paid": to, "value": output.value, "height": height }));
                    }
                    false => say("paid", format_args!("{} {id}:{index} at {height}", output.value)),
                }
            }
        }
    }

    /// Prints how far was looked, and how much is not spent by then.
    fn tell_end(&self, mark: &Mark, left: u64) {
        let Mark { height, id, .. } = mark;
        if self.json {
            println!("{}", json!({ "scanned": height, "id": id.to_string(), "unspent": left }));
            return;
        }
        say("unspent", left);
        say("scanned", format_args!("{height} {id}"));
    }
}
