//! What holds of the overlays, in one program: their figures, their agreement, the golden traces, and real QUIC.

mod agreement;
mod can_figures;
mod chord_figures;
mod defences;
mod figures;
mod freenet_figures;
mod gnutella;
mod golden;
mod gossip;
mod gossip_figures;
mod kademlia_figures;
mod kazaa;
mod live;
mod napster;
mod pastry_figures;
mod scribe;
mod scribe_figures;
mod search_figures;
mod tapestry_figures;
mod upheaval;
mod virtuals;
