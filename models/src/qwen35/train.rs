//! The model as a stack for the block driver.

use cotangent::{Dtype, Error, Indices, Mode, Parameters, Result, Stack, StackStages, Stored, Tensor, Train};
use cotangent_kernels::{Documents, Labels};

use crate::linear::{Linear, LowRank};
use crate::norm::RmsNorm;
use crate::rope::Rotary;
use crate::vision::Pictures;

use super::balance::Balance;
use super::block::Block;
use super::experts::Routing;
use super::lora::is_adapter;
use super::model::{Model, Table};
use super::multi_token::MultiTokenHead;

/// The batch that a training step is computed from. Rows are padded on the right: attention is causal and the delta
/// rule runs forward, so tokens after the last counted one change nothing.
#[derive(Debug)]
pub struct Batch {
    /// `[B, T]`.
    pub tokens: Indices,
    /// The positions of the tokens; those of each document begin again.
    pub rotary: Rotary,
    /// Where the documents of each row lie, whose tokens do not see those of others; `None` if each row is one.
    pub documents: Option<Documents>,
    /// The pictures among the tokens; a model with a vision tower trains with [`Pictures`], also where there are none.
    pub pictures: Option<Pictures>,
    /// The next token of each place, row after row, `B * T` in all; places that do not count are ignored.
    pub labels: Labels,
    /// The factor of the sum of the losses: one over the counted tokens of the whole step, so that micro-batches weigh
    /// by their tokens.
    pub scale: f32,
    /// The tokens that the head of multi-token prediction learns; `None` if it learns nothing.
    pub ahead: Option<Ahead>,
    /// The data of the routers' load-balancing loss; `None` if they train without it, as they do where the head of
    /// multi-token prediction trains alone.
    pub balance: Option<Balance>,
}

/// The tokens of a batch that the head of multi-token prediction learns: at each place the token after the next.
#[derive(Debug)]
pub struct Ahead {
    /// The positions of the token after each place.
    pub rotary: Rotary,
    /// The token after the next of each place, row after row, `B * T` in all; places that do not count are ignored.
    pub labels: Labels,
    /// The factor of the sum of these losses, like [`Batch::scale`]: one over the places that count here.
    pub scale: f32,
    /// The way in which this loss enters that of the model.
    pub loss: AheadLoss,
}

/// The way in which the loss of multi-token prediction enters that of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AheadLoss {
    /// The loss is added to the loss of the next token.
    Beside {
        /// The factor of the loss.
        weight: f32,
        /// Whether its gradient ends at what the head reads: hidden states, embedded tokens, and the model's own head.
        detached: bool,
    },
    /// The loss is the only one that is trained.
    Alone,
}

/// The tensors that flow between blocks.
#[derive(Parameters)]
pub struct State<M: Mode> {
    /// The hidden states: in the vision tower `[N, width]`, one row a patch; after it `[B, T, hidden]`.
    pub hidden: Tensor<M>,
    /// The features that the tower gives to the first text layers and that these have not read yet, `[tokens, hidden]`
    /// each.
    pub features: Vec<Tensor<M>>,
    /// The tensors of a batch with [`Ahead`], `[B, T, hidden]` each: from the embedding on the embedded tokens, after
    /// the last layer also the hidden states after the final norm, and after the head of multi-token prediction its
    /// result alone.
    pub ahead: Vec<Tensor<M>>,
    /// The choices of the routers so far, of a batch with [`Balance`].
    pub routing: Option<Routing<M>>,
}

/// The parameters before the first layer.
#[derive(Parameters)]
pub struct Embedding<M: Mode> {
    /// `[vocabulary, hidden]`.
    pub embed_tokens: Table<M>,
}

/// The parameters after the last layer.
#[derive(Parameters)]
pub struct Head<M: Mode> {
    /// The norm before the head.
    pub norm: RmsNorm<M>,
    /// The matrix that computes the scores.
    #[parameters(flatten)]
    pub projection: Projection<M>,
}

/// A head of its own, or the embedding again. In the second case the gradient of the embedding has two parts, which the
/// driver adds.
#[derive(Parameters)]
pub enum Projection<M: Mode> {
    /// The embedding.
    Tied(Embedding<M>),
    /// A linear layer.
    Untied(Untied<M>),
}

/// Names the head `lm_head`.
#[derive(Parameters)]
pub struct Untied<M: Mode> {
    /// `[vocabulary, hidden]`.
    pub lm_head: Linear<M>,
}

impl Stack for Model<Stored> {
    type Batch = Batch;
    type State = State<Train>;
    type Embedding = Embedding<Stored>;
    type Block = Block<Stored>;
    type Head = Head<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> Embedding<Stored> {
        Embedding { embed_tokens: Table { weight: self.embed_tokens.weight.clone() } }
    }

    fn blocks(&self) -> &[Block<Stored>] {
        &self.layers
    }

    fn head(&self) -> Head<Stored> {
        let projection = match &self.lm_head {
            None => Projection::Tied(self.embedding()),
            Some(head) => Projection::Untied(Untied { lm_head: head.share() }),
        };
        Head { norm: self.norm.share(), projection }
    }

    /// Adapters are float32, and so are the matrices of a head of multi-token prediction that trains. Every layer casts its own
    /// to the dtype of what it multiplies: that of the embedding.
    fn dtype_of_use(&self, name: &str, stored: Dtype) -> Dtype {
        let is_matrix_of_head = name.starts_with("mtp.") && !name.contains("norm");
        if is_adapter(name) || is_matrix_of_head { self.embed_tokens.weight.dtype() } else { stored }
    }

    fn stages(&self) -> StackStages<'_, Self> {
        let stages = match &self.visual {
            Some(tower) => self.tower_stages(tower),
            None => StackStages::first("embedding", self.embedding(), Self::embed),
        };
        let stages = stages.blocks(Self::BLOCKS, &self.layers, Self::forward);
        match &self.mtp {
            Some(mtp) => stages.part("norm", &self.norm, normalise).part("mtp", &**mtp, predict),
            None => stages,
        }
    }

    fn embed(embedding: &Embedding<Train>, batch: &Batch) -> Result<State<Train>> {
        Ok(State::embedded(embedding.embed_tokens.weight.take_rows(&batch.tokens)?, Vec::new(), batch))
    }

    fn forward(block: &Block<Train>, state: &State<Train>, batch: &Batch) -> Result<State<Train>> {
        let documents = batch.documents.as_ref();
        let (mut hidden, routing) = match &batch.balance {
            Some(balance) => block.forward_counted(&state.hidden, &batch.rotary, documents, &balance.counted)?,
            None => (block.forward(&state.hidden, &batch.rotary, documents, None)?, None),
        };
        let routing = match (&state.routing, routing) {
            (Some(before), Some(here)) => Some(before.add(&here)?),
            (_, here) => here,
        };
        let mut features = state.features.iter();
        if let Some(of_layer) = features.next() {
            hidden = pictures(batch)?.slots.add(&hidden, of_layer)?;
        }
        Ok(State { hidden, features: features.cloned().collect(), ahead: state.ahead.clone(), routing })
    }

    fn loss(head: &Head<Train>, state: &State<Train>, batch: &Batch) -> Result<Tensor<Train>> {
        let next = || {
            let rows = head.norm.forward(&state.hidden)?;
            head.projection.cross_entropy(&rows, &batch.labels, batch.scale, false)
        };
        let Some(Ahead { labels, scale, loss, .. }) = &batch.ahead else {
            return parts(&[next()?], state, batch);
        };
        let after_next = |detached| {
            let rows = state.ahead.first().ok_or_else(without_multi_token_head)?;
            head.projection.cross_entropy(rows, labels, *scale, detached)
        };
        match *loss {
            AheadLoss::Alone => after_next(false),
            AheadLoss::Beside { detached, .. } => parts(&[next()?, after_next(detached)?], state, batch),
        }
    }

    fn weights(batch: &Batch) -> Vec<f32> {
        let mut weights = match batch.ahead.as_ref().map(|ahead| ahead.loss) {
            Some(AheadLoss::Beside { weight, .. }) => vec![1.0, weight],
            None => vec![1.0],
            Some(AheadLoss::Alone) => return vec![1.0],
        };
        weights.extend(batch.balance.iter().flat_map(Balance::weights));
        weights
    }
}

/// Returns these losses, and after them the parts that a batch with [`Balance`] asks for: a scalar, or a vector of
/// several parts.
fn parts(losses: &[Tensor<Train>], state: &State<Train>, batch: &Batch) -> Result<Tensor<Train>> {
    if let (None, [loss]) = (&batch.balance, losses) {
        return Ok(loss.clone());
    }
    let mut all = losses.iter().map(|loss| loss.reshape(&[1])).collect::<Result<Vec<_>>>()?;
    match (&batch.balance, &state.routing) {
        (Some(balance), Some(routing)) => all.push(balance.parts(routing)?),
        (Some(_), None) => return Err(Error::Other("no layer has a router".into())),
        (None, _) => {}
    }
    Tensor::concatenate(&all.iter().collect::<Vec<_>>(), 0)
}

impl State<Train> {
    /// Returns the state of a text before the first layer.
    pub(super) fn embedded(hidden: Tensor<Train>, features: Vec<Tensor<Train>>, batch: &Batch) -> Self {
        let ahead = batch.ahead.iter().map(|_| hidden.clone()).collect();
        State { hidden, features, ahead, routing: None }
    }
}

impl Projection<Train> {
    /// The loss of rows `[.., hidden]` under this head, whose own gradient is left out where `detached` says so.
    fn cross_entropy(
        &self,
        rows: &Tensor<Train>,
        labels: &Labels,
        scale: f32,
        detached: bool,
    ) -> Result<Tensor<Train>> {
        let (weight, adapter) = match self {
            Projection::Tied(embedding) => (&embedding.embed_tokens.weight, None),
            Projection::Untied(head) => (&head.lm_head.weight, head.lm_head.adapter.as_ref()),
        };
        let rows = rows.reshape(&[-1, rows.dimension(-1)])?;
        if !detached {
            return weight.cross_entropy(&rows, adapter, labels, scale);
        }
        let adapter = adapter.map(|LowRank { lora_a, lora_b, scale }| LowRank {
            lora_a: lora_a.detach(DETACHED).to_tensor(),
            lora_b: lora_b.detach(DETACHED).to_tensor(),
            scale: *scale,
        });
        weight.detached(DETACHED).cross_entropy(&rows, adapter.as_ref(), labels, scale)
    }
}

/// The reason why gradients of multi-token prediction end.
const DETACHED: &str = "multi-token prediction trains its own head alone";

/// Gives the head of multi-token prediction the hidden states as the model's own head has them.
fn normalise(norm: &RmsNorm<Train>, state: &State<Train>, _: &Batch) -> Result<State<Train>> {
    let mut ahead = state.ahead.clone();
    if !ahead.is_empty() {
        ahead.push(norm.forward(&state.hidden)?);
    }
    Ok(State { hidden: state.hidden.clone(), features: Vec::new(), ahead, routing: state.routing.clone() })
}

fn predict(mtp: &MultiTokenHead<Train>, state: &State<Train>, batch: &Batch) -> Result<State<Train>> {
    let mut predicted = Vec::new();
    if let ([embedded, hidden], Some(ahead)) = (state.ahead.as_slice(), &batch.ahead) {
        let ends = matches!(ahead.loss, AheadLoss::Beside { detached: true, .. });
        let read = |x: &Tensor<Train>| if ends { x.detach(DETACHED).to_tensor() } else { x.clone() };
        predicted.push(mtp.forward(&read(hidden), &read(embedded), &ahead.rotary, batch.documents.as_ref())?);
    }
    Ok(State { hidden: state.hidden.clone(), features: Vec::new(), ahead: predicted, routing: state.routing.clone() })
}

fn without_multi_token_head() -> Error {
    Error::Other("found what multi-token prediction is to learn, and a model that was loaded without its head".into())
}

/// The pictures of a batch for a model with a vision tower.
pub(super) fn pictures(batch: &Batch) -> Result<&Pictures> {
    batch.pictures.as_ref().ok_or_else(|| {
        Error::Other("a model with a vision tower trains on batches with `Pictures`, also where there are none".into())
    })
}
