//! Bitcoin's compact filters, by the vectors of BIP 158: blocks of its test network.

use data_encoding::HEXLOWER;
use p2p_core::Key;
use p2p_ledger::{Filter, InvalidEncoding, Reader};
use serde_json::Value;

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

/// The scripts of a block's outputs, as far as a filter has them.
fn output_scripts(block: &[u8]) -> Result<Vec<Vec<u8>>, InvalidEncoding> {
    let mut input = Reader::new(block);
    input.bytes(80)?;
    let mut scripts = Vec::new();
    for _ in 0..size(&mut input)? {
        input.u32()?;
        let mut inputs = size(&mut input)?;
        // A transaction with witnesses has a marker where others have a count.
        let has_witnesses = inputs == 0;
        if has_witnesses {
            input.u8()?;
            inputs = size(&mut input)?;
        }
        for _ in 0..inputs {
            input.bytes(36)?;
            let script = size(&mut input)?;
            input.bytes(script + 4)?;
        }
        for _ in 0..size(&mut input)? {
            input.u64()?;
            let script = size(&mut input)?;
            let script = input.bytes(script)?;
            if !script.is_empty() && script[0] != 0x6a {
                scripts.push(script.to_vec());
            }
        }
        for _ in 0..if has_witnesses { inputs } else { 0 } {
            for _ in 0..size(&mut input)? {
                let item = size(&mut input)?;
                input.bytes(item)?;
            }
        }
        input.u32()?;
    }
    assert_eq!(input.left(), 0);
    Ok(scripts)
}

fn size(input: &mut Reader<'_>) -> Result<usize, InvalidEncoding> {
    Ok(match input.u8()? {
        0xfd => input.u16()?.into(),
        0xfe => input.u32()? as usize,
        small => small.into(),
    })
}

#[test]
fn filters_of_bitcoins_blocks_are_those_of_bip_158() {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/bip158_testnet19.json")).unwrap();
    let vectors = &vectors.as_array().unwrap()[1..];
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let what = &vector[7];
        let mut scripts = output_scripts(&hex(&vector[2])).unwrap();
        scripts.extend(vector[3].as_array().unwrap().iter().map(hex).filter(|script| !script.is_empty()));
        let mut key = [0; 16];
        key.copy_from_slice(&hex(&vector[1])[16..]);
        key.reverse();
        let filter = Filter::new(&key, scripts.iter().map(Vec::as_slice));
        assert_eq!(HEXLOWER.encode(filter.as_bytes()), vector[5].as_str().unwrap(), "{what}");
        let previous = Key::new(hex(&vector[4]).try_into().unwrap());
        assert_eq!(filter.header(&previous).to_string(), vector[6].as_str().unwrap(), "{what}");
        assert!(scripts.iter().all(|script| filter.has_any(&key, [script.as_slice()])), "{what}");
        assert!(!filter.has_any(&key, [&b"no script of this block"[..]]), "{what}");
        assert_eq!(Filter::from_bytes(hex(&vector[5])), Ok(filter), "{what}");
    }
}
