//! Scans by the filters of blocks, among nodes that lie about these.

use std::collections::{BTreeMap, BTreeSet};

use p2p_core::SimPeer;
use p2p_core::sim::run_seeds;

use super::worlds::{Lie, Server, World};
use super::*;
use crate::filter::Filter;
use crate::ledger::{Mark, Scanned};

/// How a node lies about the filter of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FilterLie {
    /// Nothing is in it.
    Empty,
    /// What the block spends is not in it.
    NothingSpent,
    /// Nothing is in it, and it is not shown when that is asked for alone.
    NotShown,
    /// The right one is named, and another shown.
    Other,
    /// One hash too few is named.
    TooFew,
}

fn script(key: u8) -> Vec<u8> {
    paying([key; 20], 0, OutPoint { id: TxId(Key::ZERO), index: 0 }).outputs.remove(0).script
}

/// The filters of blocks, made of all that is in them: what they pay to, and what they spend.
fn filters_of(blocks: &[BitcoinBlock], spent: bool) -> Vec<Filter> {
    let mut paid: BTreeMap<OutPoint, Vec<u8>> = BTreeMap::new();
    let mut filters = Vec::new();
    for block in blocks {
        let mut items = BTreeSet::new();
        for one in &block.transactions {
            for (output, index) in one.outputs.iter().zip(0..) {
                paid.insert(OutPoint { id: one.id(), index }, output.script.clone());
                items.insert(output.script.clone());
            }
            items.extend(
                one.inputs.iter().filter_map(|input| paid.get(&input.previous)).filter(|_| spent).cloned(),
            );
        }
        filters.push(Filter::new(&Filter::key(&block.header.id()), items.iter().map(Vec::as_slice)));
    }
    filters
}

impl Server {
    /// What it names, the first block's left out.
    fn filters(&self) -> Vec<Filter> {
        let mut filters = filters_of(&self.blocks, true);
        let Some((lie, height)) = self.about_filters else { return filters };
        let Some(block) = self.blocks.get(height as usize - 1) else { return filters };
        match lie {
            FilterLie::Empty | FilterLie::NotShown => {
                filters[height as usize - 1] = Filter::new(&Filter::key(&block.header.id()), []);
            }
            FilterLie::NothingSpent => {
                filters[height as usize - 1] = filters_of(&self.blocks, false).remove(height as usize - 1);
            }
            FilterLie::Other | FilterLie::TooFew => {}
        }
        filters
    }

    pub(super) fn answers_about_filters(&self, asked: &BitcoinMsg) -> Vec<BitcoinMsg> {
        let filters = self.filters();
        let mut headers = vec![BitcoinNetwork::regtest().first_filter];
        filters.iter().for_each(|filter| headers.push(filter.header(&headers[headers.len() - 1])));
        let height_of =
            |id: &BlockId| self.blocks.iter().position(|block| block.header.id() == *id).map(|at| at + 1);
        match asked {
            BitcoinMsg::GetCFHeaders(FilterRange { start, stop }) => {
                let (Some(last), start) = (height_of(stop), *start as usize) else { return vec![] };
                let mut hashes: Vec<Key> = filters[start - 1..last].iter().map(Filter::hash).collect();
                if matches!(self.about_filters, Some((FilterLie::TooFew, _))) {
                    hashes.pop();
                }
                vec![BitcoinMsg::CFHeaders(*stop, headers[start - 1], hashes)]
            }
            BitcoinMsg::GetCFCheckpt(stop) => {
                let Some(last) = height_of(stop) else { return vec![] };
                let named = headers[..=last].iter().step_by(1_000).skip(1).copied().collect();
                vec![BitcoinMsg::CFCheckpt(*stop, named)]
            }
            BitcoinMsg::GetCFilters(FilterRange { start, stop }) => {
                let (Some(last), start) = (height_of(stop), *start as usize) else { return vec![] };
                let given = (start..=last).filter_map(|height| {
                    let mut filter = filters[height - 1].as_bytes().to_vec();
                    let id = self.blocks[height - 1].header.id();
                    match self.about_filters {
                        Some((FilterLie::NotShown, about)) if about == height as u64 && start == last => None,
                        Some((FilterLie::Other, about)) if about == height as u64 => {
                            filter = vec![0];
                            Some(BitcoinMsg::CFilter(id, filter))
                        }
                        _ => Some(BitcoinMsg::CFilter(id, filter)),
                    }
                });
                given.collect()
            }
            _ => vec![],
        }
    }
}

/// A node that serves filters.
fn server(blocks: &[BitcoinBlock], lie: Option<(FilterLie, u64)>) -> Server {
    let mut server = Server::new(blocks.to_vec(), Lie::None);
    server.services |= NODE_COMPACT_FILTERS;
    server.about_filters = lie;
    server
}

/// A chain in whose blocks 21 and 22 key 9 is paid and pays.
fn paid() -> Vec<BitcoinBlock> {
    let mut all = blocks(20, 1);
    let payment = paying([9; 20], 7, OutPoint { id: all[3].transactions[0].id(), index: 0 });
    let spending = paying([8; 20], 7, OutPoint { id: payment.id(), index: 0 });
    for transactions in [&[payment][..], &[spending], &[], &[]] {
        let parent = all.last().unwrap().header;
        all.push(block(&parent, all.len() as u64 + 1, 1, transactions));
    }
    all
}

fn scan(world: &mut World, after: Mark, keys: &[u8]) -> Result<Scanned<BitcoinBlock>, BitcoinError> {
    let scripts = keys.iter().map(|key| script(*key)).collect();
    match world.ask(BitcoinCommand::Scan(Scan { after, scripts })) {
        BitcoinOutcome::Scanned(scanned) => scanned,
        other => panic!("{other:?}"),
    }
}

/// The heights of all blocks that a scan finds, and the mark at its end.
fn found(world: &mut World, after: Mark, keys: &[u8]) -> (Vec<u64>, Mark) {
    let (mut heights, mut at) = (Vec::new(), after);
    loop {
        match scan(world, at, keys).unwrap() {
            Scanned::Found(mark, block) => {
                assert_eq!(block.header.id(), mark.id);
                heights.push(mark.height);
                at = mark;
            }
            Scanned::End(mark) => return (heights, mark),
            Scanned::Gone => panic!("nothing was undone"),
        }
    }
}

fn liars(world: &World) -> BTreeSet<SimPeer> {
    let number = |addr: SocketAddr| (0..9).map(SimPeer).find(|peer| peer.contact().unwrap().addr == addr);
    world.client().liars().filter_map(|(addr, _)| number(addr)).collect()
}

#[test]
fn what_pays_to_a_script_and_what_spends_it_is_found() {
    run_seeds(5, |seed| {
        let all = paid();
        let mut world = World::new(seed, vec![server(&all, None); 3], BitcoinConfig::default());
        let (heights, end) = found(&mut world, Mark::START, &[9]);
        assert_eq!((heights, end.height, end.id), (vec![21, 22], 24, all[23].header.id()));
        assert!(found(&mut world, Mark::START, &[7]).0.is_empty());
        assert!(found(&mut world, Mark::START, &[]).0.is_empty());
        assert_eq!(found(&mut world, Mark::START, &[7, 8]).0, [22]);
        // From a block that was not looked at, and on from the end.
        let mark = Mark { height: 21, id: all[20].header.id(), filters: Key::ZERO };
        assert_eq!(found(&mut world, mark, &[9]).0, [22]);
        assert_eq!(found(&mut world, end, &[9]), (vec![], end));
        let next = block(&all[23].header, 25, 9, &[]);
        (0..3).for_each(|at| world.server(at).blocks.push(next.clone()));
        world.sim.run_for(Duration::from_secs(5));
        assert_eq!(found(&mut world, end, &[9]).0, [25]);
        assert!(liars(&world).is_empty());
    });
}

/// One honest node is enough.
#[test]
fn who_hides_a_payment_in_its_filter_is_found_out_by_the_block() {
    run_seeds(5, |seed| {
        let all = paid();
        for honest in 0..3 {
            let lie = |at| (at != honest).then_some((FilterLie::Empty, 21));
            let servers = (0..3).map(|at| server(&all, lie(at))).collect();
            let mut world = World::new(seed, servers, BitcoinConfig::default());
            assert_eq!(found(&mut world, Mark::START, &[9]).0, [21, 22]);
            let expected = (0..3).filter(|at| *at != honest).map(SimPeer).collect();
            assert_eq!(liars(&world), expected, "{:?}", world.liars());
        }
    });
}

/// A block does not hold the scripts that it spends of others: nothing shows whose filter is right. So the block is looked at.
#[test]
fn who_hides_what_is_spent_hides_it_from_nobody() {
    run_seeds(5, |seed| {
        let all = paid();
        for honest in 1..3 {
            let servers =
                (0..3).map(|at| server(&all, (at >= honest).then_some((FilterLie::NothingSpent, 22))));
            let mut world = World::new(seed, servers.collect(), BitcoinConfig::default());
            let (heights, end) = found(&mut world, Mark::START, &[9]);
            assert_eq!((heights, end.height), (vec![21, 22], 24));
            assert!(liars(&world).is_empty(), "{:?}", world.liars());
        }
    });
}

/// With every block it lies about that one, and says the truth of all before.
#[test]
fn who_is_overruled_too_often_is_not_heard_any_more() {
    let mut all = blocks(20, 1);
    for at in 0..12 {
        let spends = OutPoint { id: all[at].transactions[0].id(), index: 0 };
        let parent = all.last().unwrap().header;
        all.push(block(&parent, all.len() as u64 + 1, 4, &[paying([2; 20], 7, spends)]));
    }
    let mut world = World::new(1, vec![server(&all[..20], None); 3], BitcoinConfig::default());
    for height in 21..=32u64 {
        (0..3).for_each(|at| world.server(at).blocks = all[..height as usize].to_vec());
        world.server(0).about_filters = Some((FilterLie::NothingSpent, height));
        world.sim.run_for(Duration::from_secs(5));
        assert_eq!(found(&mut world, Mark::START, &[3]).1.height, height);
        let node = &world.client().nodes[0];
        assert_eq!((node.overruled, node.is_mute), ((height - 20).min(9) as u32, height >= 29));
    }
    assert!(liars(&world).is_empty(), "{:?}", world.liars());
}

#[test]
fn who_does_not_show_the_filter_that_it_names_is_not_waited_for_again() {
    run_seeds(3, |seed| {
        let all = paid();
        let servers = vec![server(&all, Some((FilterLie::NotShown, 21))), server(&all, None)];
        let mut world = World::new(seed, servers, BitcoinConfig::default());
        let began = world.sim.now();
        assert_eq!(found(&mut world, Mark::START, &[9]).0, [21, 22]);
        let took = world.sim.now().since(began);
        assert!((30..60).contains(&took.as_secs()), "{took:?}");
        let began = world.sim.now();
        assert_eq!(found(&mut world, Mark::START, &[9]).0, [21, 22]);
        assert!(world.sim.now().since(began) < Duration::from_secs(10));
    });
}

#[test]
fn who_gives_another_filter_than_it_has_named_or_names_too_few_has_lied() {
    run_seeds(3, |seed| {
        let all = paid();
        for lie in [FilterLie::Other, FilterLie::TooFew] {
            let servers = vec![server(&all, Some((lie, 21))), server(&all, None)];
            let mut world = World::new(seed, servers, BitcoinConfig::default());
            // Whom it asks is drawn by lot.
            for _ in 0..20 {
                assert_eq!(found(&mut world, Mark::START, &[9]).0, [21, 22], "{lie:?}");
            }
            assert_eq!(liars(&world), [SimPeer(0)].into(), "{lie:?}");
        }
    });
}

/// Nothing is asked about what is far below; and a lie there that all that follows rests on is found.
#[test]
fn a_scan_begins_at_the_last_checkpoint_at_which_all_agree() {
    let mut all = blocks(2_400, 1);
    let parent = all.last().unwrap().header;
    all.push(block(&parent, 2_401, 9, &[]));
    let from = Mark { height: 2_100, id: all[2_099].header.id(), filters: Key::ZERO };
    for (about, base) in [(None, 2_000), (Some(1_500), 1_000), (Some(1_000), 0)] {
        let lie = about.map(|height| (FilterLie::Empty, height));
        let servers = vec![server(&all, None), server(&all, lie), server(&all, None)];
        let mut world = World::new(1, servers, BitcoinConfig::default());
        assert_eq!(found(&mut world, from, &[9]).0, [2_401]);
        let headers = &world.client().filters.headers;
        assert_eq!((headers.base(), headers.height()), (base, 2_401), "{about:?}");
        let lied: BTreeSet<SimPeer> = about.map(|_| SimPeer(1)).into_iter().collect();
        assert_eq!(liars(&world), lied);
        // What is below was not looked at: it is when it is wanted.
        assert_eq!(found(&mut world, Mark::START, &[9]).0, [2_401]);
        assert_eq!(world.client().filters.headers.base(), 0);
    }
}

#[test]
fn a_mark_of_a_branch_that_was_left_is_gone() {
    run_seeds(3, |seed| {
        let all = paid();
        let mut world = World::new(seed, vec![server(&all, None); 2], BitcoinConfig::default());
        let (_, end) = found(&mut world, Mark::START, &[9]);
        let mut branch = all[..21].to_vec();
        for height in 22..=26 {
            branch.push(block(&branch.last().unwrap().header, height, 2, &[]));
        }
        (0..2).for_each(|at| world.server(at).blocks = branch.clone());
        world.sim.run_for(Duration::from_secs(5));
        assert_eq!(scan(&mut world, end, &[9]), Ok(Scanned::Gone));
        let (heights, end) = found(&mut world, Mark::START, &[9]);
        assert_eq!((heights, end.id), (vec![21], branch[25].header.id()));
        assert!(liars(&world).is_empty(), "{:?}", world.liars());
    });
}

/// Who serves no filters is of use all the same: it has blocks.
#[test]
fn without_a_node_that_serves_filters_there_is_no_scan_and_that_is_said() {
    let all = paid();
    let plain = Server::new(all.clone(), Lie::None);
    let mut world = World::new(1, vec![plain.clone(); 2], BitcoinConfig::default());
    assert_eq!(scan(&mut world, Mark::START, &[9]), Err(BitcoinError::NoFilters));
    let mut world = World::new(1, vec![plain.clone(), plain, server(&all, None)], BitcoinConfig::default());
    assert_eq!(found(&mut world, Mark::START, &[9]).0, [21, 22]);
}
