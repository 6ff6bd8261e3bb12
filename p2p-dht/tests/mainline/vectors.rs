//! The test vectors of BEP 42 and BEP 44 (`bep.json`).

use p2p_core::{Key, PeerId};
use p2p_dht::mainline::{MutableItem, is_secure_id, target_of};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("bep.json")).unwrap()
}

fn hex<const N: usize>(text: &Value) -> [u8; N] {
    let text = text.as_str().unwrap();
    assert_eq!(text.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

#[test]
fn ids_follow_from_addresses_as_in_bep_42() {
    for vector in vectors()["bep42"].as_array().unwrap() {
        let ip = vector[0].as_str().unwrap().parse().unwrap();
        let mut id = [0xab; 20];
        id[..3].copy_from_slice(&hex::<3>(&vector[2]));
        id[19] = u8::try_from(vector[1].as_u64().unwrap()).unwrap();
        assert!(is_secure_id(&Key::new(id), ip), "{vector}");
        // The last three bits of the third byte are free, no other of the 21 is, nor the last byte's last three.
        for bit in 0..24 {
            let changed = Key::new(id).with_bit(bit, !Key::new(id).bit(bit));
            assert_eq!(is_secure_id(&changed, ip), bit >= 21, "{vector}, bit {bit}");
        }
        let other = Key::new(id).with_bit(159, !Key::new(id).bit(159));
        assert!(!is_secure_id(&other, ip), "{vector}");
    }
}

#[test]
fn items_are_signed_and_kept_as_in_bep_44() {
    let all = vectors();
    let vectors = &all["bep44"];
    let value = vectors["value_bencoded"].as_str().unwrap().to_owned();
    let publisher = PeerId::from_bytes(hex(&vectors["public_key"]));
    let sequence = vectors["seq"].as_i64().unwrap();
    for name in ["mutable", "salted"] {
        let vector = &vectors[name];
        let salt = vector["salt"].as_str().unwrap_or_default().to_owned();
        let signature = hex(&vector["signature"]);
        let item = MutableItem::signed(publisher, salt.clone(), sequence, value.clone(), signature).unwrap();
        assert_eq!(item.target(), Key::new(hex(&vector["target"])), "{name}");
        assert!(MutableItem::signed(publisher, salt, sequence + 1, value.clone(), signature).is_err());
        assert!(MutableItem::signed(publisher, "another", sequence, value.clone(), signature).is_err());
    }
    assert_eq!(target_of(value.as_bytes()), Key::new(hex(&vectors["immutable_target"])));
}
