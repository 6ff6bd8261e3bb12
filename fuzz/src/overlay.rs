//! What the nodes of the overlays say to each other that find keys, or tell everybody.

use p2p_core::Contact;
use p2p_overlay::{
    CanMsg, CanMulticastMsg, ChordMsg, HyParViewMsg, KademliaMsg, ObjectMsg, PastryMsg, PlumtreeMsg,
    RealityMsg, RoutedMsg, ScribeMsg, SeekerMsg, SwimMsg, TapestryMsg,
};

use crate::decoded;

/// `Wire` of what the nodes of Chord say to each other.
pub fn routed(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, ChordMsg<Contact>>>(bytes);
}

/// `Wire` of what the nodes of Kademlia say to each other.
pub fn kademlia(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, KademliaMsg<Contact>>>(bytes);
}

/// `Wire` of what the nodes of Pastry say to each other.
pub fn pastry(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, PastryMsg<Contact>>>(bytes);
}

/// `Wire` of what the nodes of Tapestry say to each other.
pub fn tapestry(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, TapestryMsg<Contact>>>(bytes);
}

/// `Wire` of what they say of objects.
pub fn objects(bytes: &[u8]) {
    decoded::<ObjectMsg<Contact>>(bytes);
}

/// `Wire` of what the nodes of CAN say to each other, in one reality or in several.
pub fn can(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, CanMsg<Contact>>>(bytes);
    decoded::<RoutedMsg<Contact, RealityMsg<Contact>>>(bytes);
}

/// `Wire` of what they say when messages flood a CAN.
pub fn can_multicast(bytes: &[u8]) {
    decoded::<CanMulticastMsg<Contact>>(bytes);
}

/// `Wire` of what the nodes of Scribe say to each other.
pub fn scribe(bytes: &[u8]) {
    decoded::<ScribeMsg<Contact, RoutedMsg<Contact, ChordMsg<Contact>>>>(bytes);
}

/// `Wire` of what nodes that flood and walk say to each other.
pub fn seeker(bytes: &[u8]) {
    decoded::<SeekerMsg<Contact, u32>>(bytes);
}

/// `Wire` of what the nodes of Plumtree say to each other, over HyParView and in a SWIM group.
pub fn gossip(bytes: &[u8]) {
    decoded::<PlumtreeMsg<Contact, HyParViewMsg<Contact>>>(bytes);
    decoded::<PlumtreeMsg<Contact, SwimMsg<Contact>>>(bytes);
}

/// `Wire` of what the members of a SWIM group say to each other.
pub fn swim(bytes: &[u8]) {
    decoded::<SwimMsg<Contact>>(bytes);
}
