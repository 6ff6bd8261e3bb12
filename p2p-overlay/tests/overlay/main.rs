//! What holds of the overlays, in one program: their figures, their agreement, the golden traces, and real QUIC.

mod agreement;
mod can_figures;
mod chord_figures;
mod figures;
mod golden;
mod gossip;
mod gossip_figures;
mod kademlia_figures;
mod live;
mod pastry_figures;
mod scribe;
mod scribe_figures;
mod tapestry_figures;
mod virtuals;
