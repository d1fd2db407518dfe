use cotangent::{Graph, Result, Tensor};

fn look_up<M: Graph>(table: &Tensor<M>, places: &Tensor<M>) -> Result<Tensor<M>> {
    table.take_rows(places)
}

fn main() {}
