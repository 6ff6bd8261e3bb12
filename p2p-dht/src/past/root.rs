//! What the root of a file does: it has the k nodes nearest to it keep it, itself among them (§2.1, §3.2).

use bytes::Bytes;
use p2p_core::{Cx, JobError, Keyed};
use p2p_overlay::{Next, Overlay};

use super::certificate::Certificate;
use super::msg::{PastMsg, PastRefusal};
use super::node::{JobFor, PastNode, Question};
use super::store::PastJob;

/// A file on its way from its root to the others.
#[derive(Clone, Debug)]
pub(super) struct Spreading<P> {
    client: P,
    id: u32,
    /// Answers that are still to come.
    waiting: usize,
    refused: Option<PastRefusal>,
}

/// A file that has come to its root.
#[derive(Clone, Debug)]
pub(super) struct Inserted<P> {
    client: P,
    id: u32,
    ticket: u32,
    certificate: Certificate,
    content: Bytes,
}

impl<P: Keyed> PastNode<P> {
    /// Nobody's word is passed on to so many: first it is checked.
    pub(super) fn on_insert(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u32,
        ticket: u32,
        certificate: Certificate,
        content: Bytes,
    ) {
        let file = certificate.file();
        let why = match () {
            () if !certificate.is_plausible(&content) => PastRefusal::Invalid,
            () if self.pastry.next(&file, &[]) != Next::Mine => PastRefusal::NotResponsible,
            () if self.is_busy() || self.spreading.len() >= self.config.calls => PastRefusal::Busy,
            () => {
                let job = PastJob::Check { certificate: certificate.clone(), content: content.clone() };
                let inserted = Inserted { client: from, id, ticket, certificate, content };
                return self.start(cx, job, JobFor::Spread(Box::new(inserted)));
            }
        };
        self.tell(cx, from, PastMsg::Inserted { id, result: Err(why) });
    }

    /// It is checked.
    pub(super) fn spread_out(
        &mut self,
        cx: &mut Cx<'_, Self>,
        inserted: Inserted<P>,
        genuine: Result<bool, JobError>,
    ) {
        let Inserted { client, id, ticket, certificate, content } = inserted;
        let nearest = self.nearest(&certificate.file(), certificate.replicas().into());
        let refused = match genuine {
            Ok(true) if nearest.is_empty() => Some(PastRefusal::NotResponsible),
            Ok(true) => None,
            Ok(false) => Some(PastRefusal::Invalid),
            Err(_) => Some(PastRefusal::Failed),
        };
        if let Some(why) = refused {
            return self.tell(cx, client, PastMsg::Inserted { id, result: Err(why) });
        }
        let number = self.number();
        self.spreading.insert(number, Spreading { client, id, waiting: nearest.len(), refused: None });
        for peer in nearest {
            let (certificate, content) = (certificate.clone(), content.clone());
            self.ask(cx, peer, Question::Spread(number), |id| PastMsg::Store {
                id,
                certificate,
                content,
                client: Some((client, ticket)),
            });
        }
    }

    /// One of them keeps it, or does not. When all have answered the owner hears of it.
    pub(super) fn spread(&mut self, cx: &mut Cx<'_, Self>, number: u32, result: Result<(), PastRefusal>) {
        let Some(spreading) = self.spreading.get_mut(&number) else { return };
        spreading.waiting -= 1;
        if let Err(why) = result {
            // That there is no room is what another salt is good against.
            let worst = [PastRefusal::Exists, PastRefusal::Full];
            if !spreading.refused.is_some_and(|before| worst.contains(&before)) || worst[0] == why {
                spreading.refused = Some(why);
            }
        }
        if spreading.waiting > 0 {
            return;
        }
        if let Some(Spreading { client, id, refused, .. }) = self.spreading.remove(&number) {
            self.tell(cx, client, PastMsg::Inserted { id, result: refused.map_or(Ok(()), Err) });
        }
    }
}
