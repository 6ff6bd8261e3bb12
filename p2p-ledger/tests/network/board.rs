//! Another machine and another consensus on the same nodes: a bulletin board whose blocks three authorities sign in turn.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::sim::{DiskModel, Network, Sim};
use p2p_core::{Key, Keypair, SimPeer};
use p2p_ledger::{
    Act, BlockHeader, BlockId, Board, Chain, ChainRules, Endorsement, HeaderChain, HeaderRules, Keeper,
    Ledger, LedgerConfig, LedgerError, LedgerNode, MemoryStore, Mined, Pool, PoolRules, ProofOfAuthority,
    Template, Tip, Tx, Verifier, inspect,
};
use p2p_overlay::HyParView;

use super::support::keypair;

const BOARD: Board = Board { chain: 3 };

type Node = LedgerNode<HyParView<SimPeer>, ProofOfAuthority, Board>;
type World = Sim<Node, Keeper<ProofOfAuthority, Board, MemoryStore>>;

fn rules() -> ProofOfAuthority {
    ProofOfAuthority::new((1..=3).map(|signer| keypair(signer).id().into()), 1)
}

fn world() -> World {
    let keeper = |_| {
        let seal = Endorsement { signer: 0, signature: [0; 64] };
        let first = BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 0, seal };
        let headers = HeaderChain::new(rules(), first, HeaderRules::default());
        let store = MemoryStore::default();
        let chain = Chain::new(headers, BOARD, store, Verifier::new([9; 32]), ChainRules::default());
        Keeper::new(chain, Pool::new(PoolRules { relay_fee: 0, ..PoolRules::default() }))
    };
    let mut sim = World::with_workers(1, Network::default(), DiskModel::default(), keeper);
    let first = sim.spawn(|birth| Node::new(HyParView::create(birth.peer), LedgerConfig::default()));
    for _ in 0..6 {
        sim.spawn(|birth| Node::new(HyParView::join(birth.peer, [first]), LedgerConfig::default()));
    }
    sim.run_for(Duration::from_secs(15));
    sim
}

/// An authority makes the next block at its node.
fn sign(sim: &mut World, signer: u16) -> Result<Tip, LedgerError> {
    sim.run_for(Duration::from_secs(2));
    let handle = sim.handle(SimPeer(signer.into()));
    let keypair: Keypair = keypair(signer as u8 + 1);
    sim.block_on(async move {
        let mut block = handle.ask(Template(Vec::new())).await??;
        rules().sign(&mut block.header, signer, &keypair);
        handle.ask(Mined(block)).await?
    })
}

#[test]
fn a_board_whose_blocks_authorities_sign_is_read_by_all() {
    let mut sim = world();
    let (producer, carrier) = (keypair(7), keypair(8));
    let opened = BOARD.open(&producer, b"cargo 17");
    let topic = opened.topic;
    let here: Arc<dyn Ledger<ProofOfAuthority, Board>> = Arc::new(sim.handle(SimPeer(4)));
    let mut changes = here.follow();
    let admit = BOARD.notice(&producer, topic, 1, Act::Admit(carrier.id().into()));
    let (one, other) = (here.clone(), here.clone());
    sim.block_on(async move {
        one.submit(opened).await.unwrap();
        one.submit(admit).await.unwrap();
    });
    sim.run_for(Duration::from_secs(3));
    let height = sign(&mut sim, 1).unwrap().height;
    assert_eq!(height, 1);
    sim.run_for(Duration::from_secs(2));
    // The second authority is gone: the others sign, out of turn.
    sim.crash(SimPeer(1));
    let post = BOARD.notice(&carrier, topic, 0, Act::Post { content: Key::of(b"loaded") });
    let id = post.id();
    let forged = BOARD.notice(&keypair(9), topic, 0, Act::Post { content: Key::of(b"lost") });
    let refused = sim.block_on(async move {
        other.submit(post).await.unwrap();
        other.submit(forged).await.unwrap_err()
    });
    assert!(matches!(refused, LedgerError::Invalid(_)), "{refused}");
    sim.run_for(Duration::from_secs(3));
    sign(&mut sim, 2).unwrap();
    let soon = sign(&mut sim, 2).unwrap_err();
    assert!(matches!(soon, LedgerError::Block(_)), "one of so many headers is its own: {soon}");
    sign(&mut sim, 0).unwrap();
    sim.run_for(Duration::from_secs(3));

    let change = sim.block_on(changes.next()).unwrap();
    assert_eq!((change.tip.height, change.disconnected.len(), change.connected.len()), (1, 0, 1));
    for reader in [0, 2, 3, 5, 6] {
        let handle = sim.handle(SimPeer(reader));
        let read = move |board: &Board, view: &p2p_ledger::View<'_>, tip: Tip| {
            (board.post(view, &topic, 0).map(|post| (post.content, post.by)), tip.height)
        };
        let read = sim.block_on(async move { inspect(&handle, read).await }).unwrap();
        assert_eq!(read, (Some((Key::of(b"loaded"), carrier.id().into())), 3), "at node {reader}");
    }
    // The block that it is in shows it to outsiders.
    let block = sim.block_on(async move { here.block(2).await }).unwrap().unwrap();
    let index = block.transactions.iter().position(|one| one.id() == id).unwrap();
    let proof = block.proof(index).unwrap();
    assert!(proof.shows(&block.header.root, &block.transactions[index].leaf()));
}
