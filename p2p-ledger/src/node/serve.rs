//! What a keeper answers light clients.

use bytes::Bytes;

use super::job::{Offence, ServeDone};
use super::keeper::Keeper;
use super::msg::MAX_HEADERS;
use crate::codec::{Blob, Decode, Encode, encoded_list};
use crate::consensus::Consensus;
use crate::inclusion::Inclusion;
use crate::light::{FILTER_BYTES, LightAnswer, LightAsk, MAX_FILTER_HASHES, MAX_FILTERS};
use crate::pool::PoolError;
use crate::state::State;
use crate::store::{Store, StoreError};

impl<C: Consensus, S: State, D: Store> Keeper<C, S, D> {
    /// Answers a light client. A disk that fails has nothing.
    pub(super) fn serve(&mut self, ask: LightAsk, now: u64) -> ServeDone {
        if let LightAsk::Submit(bytes) = ask {
            return self.take(&bytes, now);
        }
        let answer = self.read_for_light(ask).ok().flatten();
        ServeDone { answer: answer.unwrap_or(LightAnswer::Missing), admitted: Vec::new(), offence: None }
    }

    fn read_for_light(&self, ask: LightAsk) -> Result<Option<LightAnswer>, StoreError> {
        let chain = self.chain();
        Ok(match ask {
            LightAsk::Headers(locator) => {
                let headers = encoded_list(&chain.after(&locator, MAX_HEADERS));
                Some(LightAnswer::Headers { tip: chain.tip().id, headers })
            }
            LightAsk::FilterHashes { from, to } => {
                let found = chain.filter_hashes(from, &to, MAX_FILTER_HASHES)?;
                found.map(|(previous, hashes)| LightAnswer::FilterHashes { previous, hashes })
            }
            LightAsk::Filters { from, to } => {
                let found = chain.filters(from, &to, MAX_FILTERS, FILTER_BYTES)?;
                found.map(|filters| {
                    LightAnswer::Filters(encoded_list(&filters.into_iter().map(Blob).collect::<Vec<_>>()))
                })
            }
            LightAsk::Block(id) => chain.block(&id)?.map(|block| LightAnswer::Block(block.to_bytes().into())),
            LightAsk::Proof { block, transaction } => {
                let shown = chain.block(&block)?.and_then(|block| Inclusion::of(&block, transaction));
                shown.map(|shown| LightAnswer::Proof(shown.to_bytes().into()))
            }
            LightAsk::Submit(_) => None,
        })
    }

    fn take(&mut self, bytes: &Bytes, now: u64) -> ServeDone {
        let transaction = match S::Tx::from_bytes(bytes) {
            Ok(transaction) => transaction,
            Err(error) => {
                let answer = LightAnswer::Submitted(Some(error.to_string()));
                return ServeDone { answer, admitted: Vec::new(), offence: Some(Offence::Malformed) };
            }
        };
        let (result, admitted) = self.submit(transaction, now);
        let offence = matches!(result, Err(PoolError::Signature)).then_some(Offence::Unsigned);
        let why = result.err().map(|error| error.to_string());
        ServeDone { answer: LightAnswer::Submitted(why), admitted, offence }
    }
}
