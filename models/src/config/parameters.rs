use super::{LayerKind, TextConfig};

impl TextConfig {
    /// Every parameter of the model in reading order, by canonical name, with its shape in Hugging Face layout.
    ///
    /// A canonical name is the Hugging Face name without the prefix that differs between exports:
    /// `embed_tokens.weight`, `layers.0.linear_attn.in_proj_qkv.weight`, `norm.weight`, and `lm_head.weight` unless the
    /// embeddings are tied.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let hidden = self.hidden_size;
        let mut parameters = vec![("embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for (index, kind) in self.layers.iter().enumerate() {
            let mut add = |name: &str, shape: &[usize]| {
                parameters.push((format!("layers.{index}.{name}"), shape.to_vec()));
            };
            add("input_layernorm.weight", &[hidden]);
            match kind {
                LayerKind::LinearAttention => self.linear_attention(&mut add),
                LayerKind::FullAttention => self.full_attention(&mut add),
            }
            add("post_attention_layernorm.weight", &[hidden]);
            add("mlp.gate_proj.weight", &[self.intermediate_size, hidden]);
            add("mlp.up_proj.weight", &[self.intermediate_size, hidden]);
            add("mlp.down_proj.weight", &[hidden, self.intermediate_size]);
        }
        parameters.push(("norm.weight".to_owned(), vec![hidden]));
        if !self.tie_word_embeddings {
            parameters.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        parameters
    }

    fn linear_attention(&self, add: &mut impl FnMut(&str, &[usize])) {
        let (hidden, heads) = (self.hidden_size, self.linear_num_value_heads);
        let (value_dim, conv_dim) = (self.linear_value_dim(), self.linear_conv_dim());
        add("linear_attn.in_proj_qkv.weight", &[conv_dim, hidden]);
        add("linear_attn.in_proj_z.weight", &[value_dim, hidden]);
        add("linear_attn.in_proj_b.weight", &[heads, hidden]);
        add("linear_attn.in_proj_a.weight", &[heads, hidden]);
        add("linear_attn.conv1d.weight", &[conv_dim, 1, self.linear_conv_kernel_dim]);
        add("linear_attn.A_log", &[heads]);
        add("linear_attn.dt_bias", &[heads]);
        add("linear_attn.norm.weight", &[self.linear_value_head_dim]);
        add("linear_attn.out_proj.weight", &[hidden, value_dim]);
    }

    fn full_attention(&self, add: &mut impl FnMut(&str, &[usize])) {
        let hidden = self.hidden_size;
        let query_dim = self.num_attention_heads * self.head_dim;
        let key_dim = self.num_key_value_heads * self.head_dim;
        // Per head the query, then its output gate.
        add("self_attn.q_proj.weight", &[2 * query_dim, hidden]);
        add("self_attn.k_proj.weight", &[key_dim, hidden]);
        add("self_attn.v_proj.weight", &[key_dim, hidden]);
        add("self_attn.o_proj.weight", &[hidden, query_dim]);
        add("self_attn.q_norm.weight", &[self.head_dim]);
        add("self_attn.k_norm.weight", &[self.head_dim]);
    }
}
