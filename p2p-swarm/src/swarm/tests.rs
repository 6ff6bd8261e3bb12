//! One machine by hand: what it asks, what it makes of answers, and what it lets strangers do.

use p2p_core::{Rng, Script, SimPeer, Worker};
use proptest::prelude::*;

use super::*;
use crate::job::Target;
use crate::runs::RUN;
use crate::tree::TreeBuilder;
use crate::{MemoryFiles, MemoryWorker, Standing};
use p2p_core::Wire;

const A: SimPeer = SimPeer(1);
const B: SimPeer = SimPeer(2);

/// A machine and its worker.
struct Bench {
    script: Script<Swarm<SimPeer>>,
    worker: MemoryWorker,
    files: MemoryFiles,
}

impl Bench {
    fn new(config: SwarmConfig) -> Bench {
        let files = MemoryFiles::default();
        Bench { script: Script::new(Swarm::new(config)), worker: MemoryWorker::new(files.clone()), files }
    }

    /// Does the jobs there are, and those that follow.
    fn work(&mut self) {
        loop {
            let jobs = self.script.jobs();
            if jobs.is_empty() {
                return;
            }
            for (id, job) in jobs {
                let done = self.worker.run(vec![job]).pop().unwrap();
                self.script.done(id, done);
            }
        }
    }

    fn share(&mut self, content: &[u8]) -> Key {
        self.files.put("blob", content);
        self.script.command(SwarmCommand::Share(Share { path: "blob".into() }));
        self.work();
        let _ = self.script.outcomes();
        Key::of(content)
    }

    fn fetch(&mut self, root: Key, providers: &[SimPeer]) -> OpId {
        let to = Target::File("copy".into());
        let fetch = Fetch { root, to, providers: providers.to_vec(), progress: None };
        let op = self.script.command(SwarmCommand::Fetch(fetch));
        self.work();
        op
    }

    fn asked(&mut self) -> Vec<(SimPeer, QuestionId, Part)> {
        let sent = self.script.sent();
        sent.into_iter()
            .filter_map(|(to, msg)| match msg {
                SwarmMsg::Ask { id, part, .. } => Some((to, id, part)),
                SwarmMsg::Data { .. } | SwarmMsg::Refused { .. } => None,
            })
            .collect()
    }
}

fn content(len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    Rng::new(1).fill(&mut content);
    content
}

/// The true answer.
fn answer(content: &[u8], id: QuestionId, part: Part) -> SwarmMsg {
    let mut builder = TreeBuilder::default();
    builder.update(content);
    let (size, outboard) = (content.len() as u64, builder.finish());
    let run = match part {
        Part::Last => run_count(size) - 1,
        Part::Run(run) => run,
    };
    let bytes = crate::runs::bytes_of(size, run);
    let proof = outboard.proof(crate::runs::groups_of(size, run)).unwrap();
    SwarmMsg::Data {
        id,
        size,
        proof,
        bytes: content[bytes.start as usize..bytes.end as usize].to_vec().into(),
    }
}

#[test]
fn the_last_run_comes_first_and_proves_the_size() {
    let content = content(3 * RUN + 5);
    let mut bench = Bench::new(SwarmConfig::default());
    bench.fetch(Key::of(&content), &[A]);
    let asked = bench.asked();
    let [(A, id, Part::Last)] = asked[..] else { panic!("{asked:?}") };
    bench.script.message(A, answer(&content, id, Part::Last));
    bench.work();
    let parts: Vec<Part> = bench.asked().into_iter().map(|(_, _, part)| part).collect();
    assert_eq!(parts, [Part::Run(0), Part::Run(1), Part::Run(2)], "and it is not asked for twice");
}

#[test]
fn a_provider_that_makes_a_blob_longer_is_named() {
    let content = content(3 * RUN);
    let mut bench = Bench::new(SwarmConfig::default());
    let op = bench.fetch(Key::of(&content), &[A, B]);
    let (liar, id, _) = bench.asked()[0];
    let SwarmMsg::Data { proof, bytes, .. } = answer(&content, id, Part::Run(1)) else { panic!() };
    bench.script.message(liar, SwarmMsg::Data { id, size: 2 * RUN as u64, proof, bytes });
    bench.work();
    assert_eq!(bench.script.items(), [(op, FetchItem::Lied(liar))]);
    let asked = bench.asked();
    assert!(matches!(asked[..], [(honest, _, Part::Last)] if honest != liar), "{asked:?}");
    assert!(bench.files.read("copy.p2p-part").unwrap().is_empty(), "nothing of it was kept");
}

#[test]
fn only_who_was_asked_is_heard_and_only_once() {
    let content = content(3 * RUN);
    let mut bench = Bench::new(SwarmConfig::default());
    bench.fetch(Key::of(&content), &[A]);
    let (_, id, _) = bench.asked()[0];
    let stale = QuestionId { session: id.session.wrapping_add(1), ..id };
    let unknown = QuestionId { number: id.number + 1, ..id };
    bench.script.message(B, answer(&content, id, Part::Last));
    bench.script.message(A, answer(&content, stale, Part::Run(0)));
    bench.script.message(A, answer(&content, unknown, Part::Last));
    bench.script.message(B, SwarmMsg::Refused { id, why: Refusal::NotShared });
    assert!(bench.script.jobs().is_empty());
    bench.script.message(A, answer(&content, id, Part::Last));
    bench.script.message(A, answer(&content, id, Part::Last));
    assert_eq!(bench.script.jobs().len(), 1);
    assert!(bench.script.items().is_empty(), "nobody is called a liar for any of this");
}

#[test]
fn what_is_late_is_asked_of_another_and_the_late_one_is_named() {
    let content = content(3 * RUN);
    let mut bench = Bench::new(SwarmConfig::default());
    let op = bench.fetch(Key::of(&content), &[A, B]);
    let (slow, ..) = bench.asked()[0];
    bench.script.advance(Duration::from_millis(2100));
    assert_eq!(bench.script.items(), [(op, FetchItem::Slow(slow))]);
    let asked = bench.asked();
    assert!(matches!(asked[..], [(other, _, Part::Last)] if other != slow), "{asked:?}");
}

#[test]
fn a_provider_that_is_gone_gives_back_what_it_was_asked_for() {
    let content = content(8 * RUN);
    let mut bench = Bench::new(SwarmConfig::default());
    bench.fetch(Key::of(&content), &[A, B]);
    let (first, id, _) = bench.asked()[0];
    bench.script.message(first, answer(&content, id, Part::Last));
    bench.work();
    let (owed, mut open): (Vec<_>, Vec<_>) = bench.asked().into_iter().partition(|(to, ..)| *to == first);
    assert!(!owed.is_empty());
    bench.script.link(first, Link::Down(p2p_core::Down::TimedOut));
    let mut got = Vec::new();
    loop {
        open.extend(bench.asked());
        let Some((to, id, part)) = open.pop() else { break };
        assert_ne!(to, first);
        got.push(part);
        bench.script.message(to, answer(&content, id, part));
        bench.work();
    }
    assert!(owed.iter().all(|(_, _, part)| got.contains(part)), "{owed:?} of {got:?}");
    assert_eq!(bench.files.read("copy").unwrap(), content);
}

#[test]
fn a_disk_that_fails_ends_the_fetch_with_its_reason() {
    let content = content(3 * RUN);
    let mut bench = Bench::new(SwarmConfig::default());
    bench.fetch(Key::of(&content), &[A]);
    let (_, id, _) = bench.asked()[0];
    bench.script.message(A, answer(&content, id, Part::Last));
    let (job, write) = bench.script.jobs().pop().unwrap();
    let failed = p2p_core::Job::failed(&write, p2p_core::JobError::Storage);
    bench.script.done(job, failed);
    let outcomes = bench.script.outcomes();
    let storage = StoreError::Job(p2p_core::JobError::Storage);
    assert_eq!(outcomes[0].1, SwarmOutcome::Fetched(Err(FetchError::Store(storage))));
    bench.work();
    assert_eq!(bench.script.timers().count(), 0);
}

#[test]
fn one_place_takes_one_fetch_at_a_time() {
    let mut bench = Bench::new(SwarmConfig::default());
    bench.fetch(Key::of(b"one"), &[A]);
    bench.fetch(Key::of(b"two"), &[A]);
    let outcomes = bench.script.outcomes();
    assert!(matches!(&outcomes[..], [(_, SwarmOutcome::Fetched(Err(FetchError::Busy)))]));
}

#[test]
fn a_dropped_fetch_is_closed_and_asks_no_more() {
    let content = content(8 * RUN);
    let mut bench = Bench::new(SwarmConfig::default());
    let op = bench.fetch(Key::of(&content), &[A]);
    let (_, id, _) = bench.asked()[0];
    bench.script.message(A, answer(&content, id, Part::Last));
    bench.work();
    let open = bench.asked();
    bench.script.cancel(op);
    bench.work();
    for (to, id, part) in open {
        bench.script.message(to, answer(&content, id, part));
    }
    bench.script.advance(Duration::from_secs(60));
    assert!(bench.script.jobs().is_empty() && bench.asked().is_empty());
    assert_eq!(bench.files.synced("copy.p2p-part").unwrap()[7 * RUN..], content[7 * RUN..], "and synced");
}

#[test]
fn a_greedy_asker_is_told_to_wait_while_others_are_served() {
    let config = SwarmConfig { reads: 2, questions_per_peer: 4, ..SwarmConfig::default() };
    let mut bench = Bench::new(config);
    let root = bench.share(&content(3 * RUN));
    let ask = |number| SwarmMsg::Ask { id: QuestionId { session: 7, number }, root, part: Part::Run(0) };
    (0..1000).for_each(|number| bench.script.message(A, ask(number)));
    bench.script.message(B, ask(0));
    let busy = bench.script.sent();
    assert_eq!(busy.len(), 1000 - 6, "two are being read, four wait");
    assert!(
        busy.iter().all(|(to, msg)| *to == A && matches!(msg, SwarmMsg::Refused { why: Refusal::Busy, .. }))
    );
    assert_eq!(bench.script.jobs().len(), 2);
}

#[test]
fn what_is_shared_twice_is_unshared_twice() {
    let mut bench = Bench::new(SwarmConfig::default());
    bench.files.put("folder/a", b"same".to_vec());
    bench.files.put("folder/b", b"same".to_vec());
    for path in ["folder", "folder/a"] {
        bench.script.command(SwarmCommand::Share(Share { path: path.into() }));
    }
    bench.work();
    assert_eq!(bench.script.machine().shared().len(), 2, "the file and the list");
    let unshare = |bench: &mut Bench, root| {
        bench.script.command(SwarmCommand::Unshare(Unshare { root }));
        bench.script.outcomes().pop().unwrap().1
    };
    let folder = bench.script.machine().shared().find(|root| *root != Key::of(b"same")).unwrap();
    while let Some(_outcome) = bench.script.outcomes().pop() {}
    assert_eq!(unshare(&mut bench, folder), SwarmOutcome::Unshared(true));
    assert_eq!(bench.script.machine().shared().collect::<Vec<_>>(), [Key::of(b"same")]);
    assert_eq!(unshare(&mut bench, Key::of(b"same")), SwarmOutcome::Unshared(true));
    assert_eq!(bench.script.machine().shared().len(), 0);
    assert_eq!(unshare(&mut bench, folder), SwarmOutcome::Unshared(false));
}

#[test]
fn providers_are_bounded_and_liars_do_not_come_back() {
    let content = content(RUN);
    let mut bench = Bench::new(SwarmConfig::default());
    let many: Vec<SimPeer> = (0..1000).map(SimPeer).collect();
    let op = bench.fetch(Key::of(&content), &many);
    let (liar, id, _) = bench.asked()[0];
    bench.script.message(liar, SwarmMsg::Data { id, size: 1, proof: Vec::new(), bytes: vec![1].into() });
    bench.work();
    assert_eq!(bench.script.items(), [(op, FetchItem::Lied(liar))]);
    bench
        .script
        .command(SwarmCommand::AddProviders(AddProviders { root: Key::of(&content), providers: vec![liar] }));
    let (other, id, part) = *bench.asked().last().unwrap();
    assert_ne!(other, liar);
    bench.script.message(other, answer(&content, id, part));
    bench.work();
    let (_, SwarmOutcome::Fetched(Ok(fetched))) = bench.script.outcomes().pop().unwrap() else { panic!() };
    assert_eq!(fetched.peers.len(), 64);
    let report = fetched.peers.iter().find(|report| report.peer == liar).unwrap();
    assert_eq!((report.standing, report.wasted), (Standing::Liar, 1));
}

fn message() -> impl Strategy<Value = SwarmMsg> {
    let id = || {
        (prop_oneof![Just(0u64), any::<u64>()], 0u32..8)
            .prop_map(|(session, number)| QuestionId { session, number })
    };
    let part = prop_oneof![Just(Part::Last), (0u64..5).prop_map(Part::Run), any::<u64>().prop_map(Part::Run)];
    let root = prop_oneof![Just(Key::of(&content(3 * RUN))), any::<[u8; 32]>().prop_map(Key::new)];
    let size = prop_oneof![any::<u64>(), 0u64..2_000_000];
    let proof = prop::collection::vec(any::<[u8; 32]>(), 0..40);
    let bytes = prop::collection::vec(any::<u8>(), 0..3000);
    prop_oneof![
        (id(), root, part).prop_map(|(id, root, part)| SwarmMsg::Ask { id, root, part }),
        (id(), size, proof, bytes).prop_map(|(id, size, proof, bytes)| SwarmMsg::Data {
            id,
            size,
            proof,
            bytes: bytes.into()
        }),
        (id(), any::<bool>()).prop_map(|(id, busy)| {
            let why = if busy { Refusal::Busy } else { Refusal::NotShared };
            SwarmMsg::Refused { id, why }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Strangers and providers say what they like: the machine answers each question once, and grows by nothing.
    #[test]
    fn any_messages_do_no_harm(messages in prop::collection::vec((1u32..4, message()), 0..60)) {
        let mut bench = Bench::new(SwarmConfig::default());
        bench.share(&content(3 * RUN));
        bench.fetch(Key::of(b"something else"), &[A, B]);
        let session = bench.asked()[0].1.session;
        let mut questions = 0;
        for (from, mut msg) in messages {
            match &mut msg {
                SwarmMsg::Ask { .. } => questions += 1,
                SwarmMsg::Data { id, .. } | SwarmMsg::Refused { id, .. } if id.session == 0 => id.session = session,
                SwarmMsg::Data { .. } | SwarmMsg::Refused { .. } => {}
            }
            prop_assert_eq!(SwarmMsg::from_bytes(&msg.to_bytes()), Ok(msg.clone()));
            bench.script.message(SimPeer(from), msg);
            bench.work();
        }
        let answers = bench.script.sent().into_iter().filter(|(_, msg)| !matches!(msg, SwarmMsg::Ask { .. }));
        prop_assert_eq!(answers.count(), questions);
        prop_assert!(bench.files.read("copy").is_none());
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(msg) = SwarmMsg::from_bytes(&bytes) {
            prop_assert!(SwarmMsg::from_bytes(&msg.to_bytes()).is_ok());
        }
    }
}

#[test]
fn the_longest_message_fits() {
    let id = QuestionId { session: u64::MAX, number: u32::MAX };
    let bytes = vec![0; RUN].into();
    let longest = SwarmMsg::Data { id, size: u64::MAX, proof: vec![[0; 32]; 100], bytes };
    assert!(longest.wire_len() <= SwarmMsg::MAX_BYTES);
    let limit = p2p_core::Limits::default().queue_bytes_per_peer;
    assert!(SwarmConfig::default().window * longest.wire_len() < limit, "a full window overflows no queue");
}
