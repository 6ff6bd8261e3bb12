//! What others ask: queries are answered and passed on, hits go back the way that the query has come, pushes back the
//! way of the hit (§4).

use bytes::{BufMut, Bytes, BytesMut};
use p2p_core::{Contact, Cx, OpId};

use super::asking::referred;
use super::codec::GnutellaMsg;
use super::descriptor::{Descriptor, Guid, Payload, QueryHit, Shared};
use super::pushing::Pushed;
use super::{Gnutella, GnutellaEvent};
use crate::bucket::Rate;
use crate::place::{Place, foreign, is_somewhere};
use crate::search::{ContentHash, Hit, Item, Library, MAX_HASHES, Query, words};
use crate::sharing::Wanted;

/// The way that a query has come.
#[derive(Clone, Debug)]
pub(super) struct QueryRoute<P> {
    pub way: Way<P>,
    /// Results that have come for it.
    results: Shares<P>,
}

/// Whose a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way<P> {
    /// A user's of this node.
    Own(OpId),
    /// It came from this neighbour.
    Via(P),
}

/// A hit is split above so many bytes of results (§3.2.4.2: all servents pass on 2 KiB).
const HIT_BYTES: usize = 1800;
/// Of more neighbours one query has no results: more than a servent has at once.
const MOST_SHARES: usize = 64;
/// Who made the servent, in hits (§A.1.2).
const VENDOR: &[u8; 4] = b"P2PR";
/// What stands between extensions of one field (§3.2.4.3).
const SEPARATOR: u8 = 0x1c;

impl<P> QueryRoute<P> {
    pub(super) fn new(way: Way<P>) -> QueryRoute<P> {
        QueryRoute { way, results: Shares::default() }
    }
}

/// How many results of one query each neighbour has brought, so that none takes the room of what comes by another.
#[derive(Clone, Debug)]
pub(crate) struct Shares<P>(Vec<(P, u16)>);

impl<P> Default for Shares<P> {
    fn default() -> Shares<P> {
        Shares(Vec::new())
    }
}

impl<P: Place> Shares<P> {
    /// So many more come by a neighbour; how many of them are within its share.
    pub(crate) fn add(&mut self, by: P, results: usize, most: u16) -> u16 {
        let at = match self.0.iter().position(|(peer, _)| *peer == by) {
            Some(at) => at,
            None if self.0.len() >= MOST_SHARES => return 0,
            None => {
                self.0.push((by, 0));
                self.0.len() - 1
            }
        };
        let brought = &mut self.0[at].1;
        let within = results.min(most.saturating_sub(*brought).into()) as u16;
        *brought += within;
        within
    }
}

impl<P: Place> Gnutella<P> {
    /// Passes a question on to all neighbours but the one it came from; how many that were.
    pub(super) fn pass_on(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: Descriptor) -> u64 {
        let Some(descriptor) = descriptor.onward() else { return 0 };
        let mut sent = 0;
        for peer in self.neighbours().filter(|peer| *peer != from) {
            self.tell(cx, peer, descriptor.clone());
            sent += 1;
        }
        sent
    }

    /// Passes an answer back; says whether there was a way.
    pub(super) fn pass_back(&mut self, cx: &mut Cx<'_, Self>, via: P, descriptor: Descriptor) -> bool {
        let Some(descriptor) = descriptor.onward().filter(|_| self.neighbours.contains_key(&via)) else {
            self.tally.dropped += 1;
            return false;
        };
        self.tell(cx, via, descriptor);
        true
    }

    /// Somebody looks for something.
    pub(super) fn on_query(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: Descriptor) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        if descriptor.hops == 0 && !neighbour.account.queries.take(cx.now(), self.config.queries) {
            self.tally.dropped += 1;
            return;
        }
        if let Some(QueryRoute { way, .. }) = self.queries.get(&descriptor.id) {
            self.tally.duplicates += 1;
            if let Way::Own(op) = *way {
                self.came_back(op, &descriptor);
            }
            return;
        }
        self.queries.insert(descriptor.id, QueryRoute::new(Way::Via(from)));
        self.tally.reached += 1;
        self.answer(cx, from, &descriptor);
        let (Rate { every, burst }, most) = (self.config.descriptors, self.config.most.max(1) as u32);
        let share = Rate { every: every * most, burst: burst / most };
        let passes =
            self.neighbours.get_mut(&from).is_some_and(|from| from.account.passing.take(cx.now(), share));
        match passes {
            true => self.tally.queries += self.pass_on(cx, from, descriptor),
            false => self.tally.dropped += 1,
        }
    }

    /// Says what of its own matches.
    fn answer(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: &Descriptor) {
        for some in answers(&self.library, &descriptor.payload, self.config.results) {
            let hit = self.hit(cx, some);
            let ttl = descriptor.hops.saturating_add(1);
            self.tally.hits += 1;
            self.tell(
                cx,
                from,
                Descriptor { id: descriptor.id, ttl, hops: 0, payload: Payload::QueryHit(hit) },
            );
        }
    }

    /// A hit of its own, with an identifier that only who sees it knows.
    fn hit(&mut self, cx: &mut Cx<'_, Self>, results: Vec<Shared>) -> QueryHit {
        let servent = self.pushing.offer(self.servent, cx.rng());
        hit_of(self.listen, self.config.speed, results, servent)
    }

    /// Somebody has something.
    pub(super) fn on_hit(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: Descriptor) {
        let Payload::QueryHit(hit) = &descriptor.payload else { return };
        let Some(route) = self.queries.get_mut(&descriptor.id) else {
            self.tally.dropped += 1;
            return;
        };
        let way = route.way;
        let is_own = matches!(way, Way::Own(_));
        let results = hit.results.len();
        // Nobody answers its own question.
        if way == Way::Via(from)
            || !is_own && route.results.add(from, results, self.config.hits_per_query) == 0
        {
            self.tally.dropped += 1;
            return;
        }
        self.pushing.on_hit(hit.servent, from, |known| self.neighbours.contains_key(known));
        match way {
            Way::Own(op) => self.on_own_hit(cx, from, op, &descriptor),
            Way::Via(via) => self.tally.hits += u64::from(self.pass_back(cx, via, descriptor)),
        }
    }

    /// Somebody wants a servent to connect to it.
    pub(super) fn on_push(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: Descriptor) {
        let Payload::Push { servent, index, contact, .. } = descriptor.payload else { return };
        match self.pushing.on_push(descriptor.id, &servent, from) {
            Pushed::Again => self.tally.duplicates += 1,
            Pushed::Own => self.give(cx, servent, index, contact),
            Pushed::Via(via) => {
                self.pass_back(cx, via, descriptor);
            }
            Pushed::Nowhere => self.tally.dropped += 1,
        }
    }

    /// Connects to whoever has asked, if it is right to.
    fn give(&mut self, cx: &mut Cx<'_, Self>, servent: Guid, index: u32, contact: Contact) {
        let (now, rate) = (cx.now(), self.config.push);
        let Some(name) = self.pushing.gives(&self.library, &servent, index, &contact, now, rate) else {
            self.tally.dropped += 1;
            return;
        };
        let to = self.dial(contact);
        cx.send(to, GnutellaMsg::Give { index, servent, name });
        cx.emit(GnutellaEvent::Gives { to, index });
    }
}

/// How a hit's source is asked for it: by its content if that has a SHA-1, as HUGE has it, or by its number.
pub(crate) fn wanted<P>(hit: &Hit<P>) -> Option<Wanted> {
    let (_, index) = referred(&hit.reference)?;
    let hash = hit.item.hashes.iter().find(|hash| matches!(hash, ContentHash::Sha1(_))).copied();
    Some(Wanted { hash, index, name: hit.item.name.clone(), size: hit.item.size })
}

/// The item that somebody asks for, by its content or by its number; a name has to be the item's too.
pub(crate) fn wanted_of<'a>(library: &'a Library, wanted: &Wanted) -> Option<&'a Item> {
    match wanted.hash {
        Some(hash) => library.find(&Query::content(hash)).next().map(|(_, item)| item),
        None => library.get(wanted.index).filter(|item| item.name == wanted.name),
    }
}

/// A hit of a servent that is reached there, if it is.
pub(crate) fn hit_of(listen: Option<Contact>, speed: u32, results: Vec<Shared>, servent: Guid) -> QueryHit {
    let nowhere = foreign([0, 0, 0, 0].into(), 0);
    let mut extension = BytesMut::from(&VENDOR[..]);
    // Two bytes of flags: whether a push is needed, and that this is said.
    extension.put_slice(&[2, u8::from(listen.is_none()), 1]);
    QueryHit { contact: listen.unwrap_or(nowhere), speed, results, extension: extension.freeze(), servent }
}

/// What of a library a query gets, in parts that are short enough for a hit each.
pub(crate) fn answers(library: &Library, payload: &Payload, most: usize) -> Vec<Vec<Shared>> {
    let Payload::Query { criteria, extension, .. } = payload else { return Vec::new() };
    let found = library.find(&query(criteria, extension)).take(most);
    let mut parts: Vec<Vec<Shared>> = Vec::new();
    let mut bytes = 0;
    for (index, item) in found {
        let next = shared(index, item);
        bytes += next.len();
        match parts.last_mut() {
            Some(part) if bytes <= HIT_BYTES => part.push(next),
            _ => {
                bytes = next.len();
                parts.push(vec![next]);
            }
        }
    }
    parts
}

/// What a query asks for. Many a servent gives words only, some a URN (HUGE §3.4).
pub(crate) fn query(criteria: &[u8], extension: &[u8]) -> Query {
    let query = Query::text(&String::from_utf8_lossy(criteria));
    match hashes(extension).next() {
        Some(hash) => query.of(hash),
        None => query,
    }
}

/// The other way round; `None` if it asks for nothing, or for too much.
pub(crate) fn criteria(query: &Query) -> Option<(Bytes, Bytes)> {
    let words = query.words().join(" ");
    if query.is_empty() || words.len() > MAX_CRITERIA {
        return None;
    }
    let extension = query.hash().map(|hash| format!("{hash}\0"));
    Some((words.into(), extension.unwrap_or_default().into()))
}

/// The longest text that is asked for: servents drop queries that are longer.
const MAX_CRITERIA: usize = 255;

/// The hashes among the extensions of a field.
fn hashes(extension: &[u8]) -> impl Iterator<Item = ContentHash> {
    let parts = extension.split(|byte| [SEPARATOR, 0].contains(byte));
    parts.filter_map(|part| std::str::from_utf8(part).ok()?.parse().ok())
}

/// An item as a result. Names have no control characters, and so no zero byte. What is larger than four gigabytes says
/// so much.
fn shared(index: u32, item: &Item) -> Shared {
    let urns: Vec<String> = item.hashes.iter().map(ContentHash::to_string).collect();
    Shared {
        index,
        size: u32::try_from(item.size).unwrap_or(u32::MAX),
        name: item.name.clone().into(),
        extension: urns.join("\u{1c}").into(),
    }
}

/// A result as an item; `None` if it is none.
pub(crate) fn item(shared: &Shared) -> Option<Item> {
    let name = String::from_utf8_lossy(&shared.name).into_owned();
    let hashes = hashes(&shared.extension).take(MAX_HASHES).collect();
    let item = Item { name, size: shared.size.into(), hashes, metadata: Vec::new() };
    item.check().is_ok().then_some(item).filter(|item| !words(&item.name).is_empty())
}

/// Whether a hit says that its source accepts no connections (§A.1.2).
pub(crate) fn needs_push(hit: &QueryHit) -> bool {
    let flagged = match hit.extension[..] {
        [_, _, _, _, size, flags, known, ..] => size >= 2 && flags & known & 1 == 1,
        _ => false,
    };
    flagged || !is_somewhere(&hit.contact)
}
