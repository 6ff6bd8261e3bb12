//! What a full node does for light clients, and what it does not put up with.

use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::BoxStream;
use p2p_core::{Key, SimPeer};
use p2p_ledger::{
    Change, Coins, Encode, Header, Ledger, LedgerCommand, LedgerError, LedgerMsg, LedgerOutcome, LightAnswer,
    LightAsk, LightMsg, Mark, Scanned, Tip, Transaction, TxId,
};

use super::support::{
    CoinBlock, Lone, MATURITY, Msg, Pow, SUBSIDY, branch, genesis, pay, pruned_books, spend,
};

const CLIENT: u32 = 9;

fn chain() -> Vec<CoinBlock> {
    branch(&genesis(), 1, MATURITY as usize + 20)
}

fn asks(lone: &mut Lone, id: u32, ask: LightAsk) -> Vec<LightAnswer> {
    lone.says(CLIENT, LedgerMsg::Light(LightMsg::Ask(id, ask)));
    let answer = |msg: Msg| match msg {
        LedgerMsg::Light(LightMsg::Answer(_, answer)) => answer,
        other => panic!("{other:?}"),
    };
    lone.sent_to(CLIENT).into_iter().map(answer).collect()
}

fn submit(lone: &mut Lone, id: u32, bytes: Vec<u8>) -> Vec<LightAnswer> {
    asks(lone, id, LightAsk::Submit(bytes.into()))
}

#[test]
fn who_gives_bad_signatures_time_and_again_is_banned() {
    let blocks = chain();
    let mut lone = Lone::at(&blocks);
    for (id, block) in (0..).zip(&blocks[..11]) {
        assert_eq!(lone.banned(), []);
        let payment = spend(2, block.transactions[0].out_point(0), [pay(3, SUBSIDY)]);
        let answers = submit(&mut lone, id, payment.to_bytes());
        assert!(matches!(answers[..], [LightAnswer::Submitted(Some(_))]), "{answers:?}");
    }
    assert_eq!(lone.banned().len(), 1);
    assert_eq!(asks(&mut lone, 20, LightAsk::Headers(vec![genesis().id()])), []);
    // What may only be early or late is no offence.
    let mut lone = Lone::at(&blocks);
    for id in 0..40 {
        let early = spend(1, blocks[blocks.len() - 1].transactions[0].out_point(0), [pay(3, SUBSIDY)]);
        submit(&mut lone, id, early.to_bytes());
    }
    assert_eq!(lone.banned(), []);
}

#[test]
fn who_gives_what_cannot_be_read_is_banned() {
    let mut lone = Lone::at(&chain());
    submit(&mut lone, 1, vec![0xff; 9]);
    assert_eq!(lone.banned(), [(CLIENT, "a transaction that cannot be read".into())]);
    assert_eq!(asks(&mut lone, 2, LightAsk::Headers(vec![genesis().id()])), []);
}

/// More than wait are answered too, and at once.
#[test]
fn a_question_that_there_is_no_room_for_is_answered() {
    let mut lone = Lone::at(&chain());
    for id in 0..20 {
        let ask = LightMsg::Ask(id, LightAsk::Headers(vec![genesis().id()]));
        lone.script.message(SimPeer(CLIENT), LedgerMsg::Light(ask));
    }
    lone.advance(1);
    let mut answers = lone.sent_to(CLIENT);
    answers.retain(|msg| matches!(msg, LedgerMsg::Light(LightMsg::Answer(_, LightAnswer::Missing))));
    assert_eq!(answers.len(), 20 - 4 - 8, "four are with the keeper, and eight wait");
}

#[test]
fn a_node_that_keeps_the_last_bodies_alone_has_all_headers() {
    let blocks = branch(&genesis(), 1, 40);
    let mut lone = Lone::keeping(pruned_books(10));
    blocks.iter().for_each(|block| lone.mined(block.clone()));
    for (height, expected) in [(0, None), (5, Some(&blocks[4])), (40, Some(&blocks[39])), (41, None)] {
        lone.script.command(LedgerCommand::HeaderAt(height));
        lone.advance(1);
        let outcome = lone.script.outcomes().pop().unwrap().1;
        let LedgerOutcome::Header(Ok(header)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(header.as_ref(), expected.map(|block| &block.header), "at {height}");
    }
}

/// A ledger that has the blocks above a height alone.
struct Late(Vec<CoinBlock>, u64);

#[async_trait]
impl Ledger<Pow, Coins> for Late {
    async fn submit(&self, _: Transaction) -> Result<TxId, LedgerError> {
        unreachable!("nobody pays")
    }
    async fn tip(&self) -> Result<Tip, LedgerError> {
        unreachable!("nobody asks")
    }
    async fn block(&self, height: u64) -> Result<Option<CoinBlock>, LedgerError> {
        match (1..=self.1).contains(&height) {
            true => Err(LedgerError::Pruned { height }),
            false => Ok(height.checked_sub(1).and_then(|at| self.0.get(at as usize)).cloned()),
        }
    }
    fn follow(&self) -> BoxStream<'static, Change> {
        unreachable!("nobody follows")
    }
}

/// Whoever has come by filters has to begin anew, and is not sent back for nothing.
#[test]
fn a_scan_by_filters_does_not_go_on_where_the_first_blocks_are_gone() {
    let blocks = chain();
    let last = &blocks[14].header;
    let after = Mark { height: 15, id: last.id(), filters: Key::of(b"filters") };
    let scan = |pruned: u64, after: Mark| {
        Late(blocks.clone(), pruned).scan(after, &Vec::new).now_or_never().unwrap()
    };
    assert_eq!(scan(10, after), Err(LedgerError::Pruned { height: 1 }));
    assert_eq!(scan(0, after), Ok(Scanned::Gone));
    let found = scan(10, Mark { filters: Key::ZERO, ..after });
    assert!(matches!(found, Ok(Scanned::Found(Mark { height: 16, .. }, _))), "{found:?}");
}
