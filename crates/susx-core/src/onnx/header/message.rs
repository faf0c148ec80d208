//! The messages of `onnx.proto` on the path to what is wanted.

/// A message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Message {
    Model,
    Opset,
    /// The model's own graph.
    Graph,
    /// A graph inside a node, such as the body of a loop.
    Subgraph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    /// A weight of the model's own graph.
    Initializer,
    /// Any other constant.
    Tensor,
    /// A key and a value of `external_data`.
    Entry,
    Input,
    Output,
    Type,
    TensorType,
    Shape,
    Dimension,
}

impl Message {
    /// The message in field `number` of this one, if the walk follows it.
    pub fn field(self, number: u64) -> Option<Message> {
        Some(match (self, number) {
            (Message::Model, 7) => Message::Graph,
            (Message::Model, 8) => Message::Opset,
            (Message::Model, 25) => Message::Function,
            (Message::Graph | Message::Subgraph, 1) | (Message::Function, 7) => Message::Node,
            (Message::Graph, 5) => Message::Initializer,
            (Message::Graph, 11) => Message::Input,
            (Message::Graph, 12) => Message::Output,
            (Message::Subgraph, 5) => Message::Tensor,
            (Message::Graph | Message::Subgraph, 15) => Message::SparseTensor,
            (Message::Node, 5) => Message::Attribute,
            (Message::Attribute, 5 | 10) => Message::Tensor,
            (Message::Attribute, 6 | 11) => Message::Subgraph,
            (Message::Attribute, 22 | 23) => Message::SparseTensor,
            (Message::SparseTensor, 1 | 2) => Message::Tensor,
            (Message::Tensor | Message::Initializer, 13) => Message::Entry,
            (Message::Input | Message::Output, 2) => Message::Type,
            (Message::Type, 1) => Message::TensorType,
            (Message::TensorType, 2) => Message::Shape,
            (Message::Shape, 1) => Message::Dimension,
            _ => return None,
        })
    }
}
