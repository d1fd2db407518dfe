//! The choice of the matrices that become codes, and of their formats.

use cotangent::{CodeFormat, CodeMode, Error, Result};

/// Codes of two widths in one model: the wider ones where errors do most harm. The names, and what each means, are those
/// of mlx-lm (`mixed_quant_predicate_builder` in `convert.py` of 0.32.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// The name on the command line.
    pub name: &'static str,
    /// Bits of most codes.
    low: usize,
    /// Bits in the head, and in the values of attention and the last matrix of the MLP of every third layer, of the first
    /// eighth and of the last.
    high: usize,
}

impl Recipe {
    /// All recipes.
    pub const ALL: [Recipe; 4] = [
        Recipe { name: "mixed_2_6", low: 2, high: 6 },
        Recipe { name: "mixed_3_4", low: 3, high: 4 },
        Recipe { name: "mixed_3_6", low: 3, high: 6 },
        Recipe { name: "mixed_4_6", low: 4, high: 6 },
    ];

    /// Bits of the codes of a module, by its canonical name, in a model of that many layers.
    fn bits(self, module: &str, layers: usize) -> usize {
        let layer = module.strip_prefix("layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        let layer = layer.unwrap_or(0);
        let first = layers / 8;
        let is_wide = layer < first || layer >= 7 * layers / 8 || (layer - first) % 3 == 2;
        let is_sensitive = module.contains("v_proj") || module.contains("down_proj");
        if is_sensitive && is_wide || module == "lm_head" { self.high } else { self.low }
    }
}

/// The way in which the matrices of a model are quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// The format where no recipe says otherwise.
    format: CodeFormat,
    recipe: Option<Recipe>,
}

impl Scheme {
    /// A scheme; what is not given is MLX's default of the mode.
    ///
    /// # Errors
    /// If the mode has no such groups or codes, or a recipe is to mix codes of a mode that has one width.
    pub fn new(mode: CodeMode, group_size: Option<usize>, bits: Option<usize>, recipe: Option<Recipe>) -> Result<Self> {
        if let Some(recipe) = recipe
            && mode != CodeMode::Affine
        {
            let (recipe, mode) = (recipe.name, mode.name());
            return Err(Error::Other(format!("the recipe `{recipe}` mixes widths of `affine` codes, found `{mode}`")));
        }
        Ok(Scheme { format: CodeFormat::new(mode, group_size, bits)?, recipe })
    }

    /// The format where no recipe says otherwise.
    pub fn format(&self) -> CodeFormat {
        self.format
    }

    /// Returns whether the configuration names the format of a module, by its canonical name.
    pub(super) fn names(&self, module: &str) -> bool {
        self.recipe.is_some() || is_router(module)
    }

    /// The format of a module with that many columns, by its canonical name; `None` where it stays dense, because the
    /// columns are no multiple of a group.
    pub(super) fn format_of(&self, module: &str, columns: usize, layers: usize) -> Result<Option<CodeFormat>> {
        if !columns.is_multiple_of(self.format.group_size()) {
            return Ok(None);
        }
        let Some(recipe) = self.recipe else {
            // As in mlx-lm, a router gets wide codes in any mode, because their errors would choose other experts.
            return if is_router(module) {
                CodeFormat::new(CodeMode::Affine, Some(64), Some(8))
            } else {
                Ok(self.format)
            }
            .map(Some);
        };
        let bits = recipe.bits(module, layers);
        CodeFormat::new(self.format.mode(), Some(self.format.group_size()), Some(bits)).map(Some)
    }
}

/// Returns whether a module chooses experts or weighs the shared one.
fn is_router(module: &str) -> bool {
    module.ends_with(".mlp.gate") || module.ends_with(".mlp.shared_expert_gate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_gives_more_bits_where_errors_do_most_harm() {
        let [_, _, recipe, _] = Recipe::ALL;
        // Of 24 layers these are the first three, the last three, and every third from the sixth on.
        let wide: Vec<usize> =
            (0..24).filter(|layer| recipe.bits(&format!("layers.{layer}.mlp.down_proj"), 24) == 6).collect();
        assert_eq!(wide, [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]);
        for (module, bits) in [
            ("layers.0.self_attn.v_proj", 6),
            ("layers.3.self_attn.v_proj", 3),
            ("layers.0.self_attn.q_proj", 3),
            ("embed_tokens", 3),
            ("lm_head", 6),
        ] {
            assert_eq!(recipe.bits(module, 24), bits, "{module}");
        }
    }

    #[test]
    fn routers_have_wide_codes_unless_a_recipe_says_otherwise() {
        let scheme = |mode, recipe| Scheme::new(mode, None, None, recipe).unwrap();
        let format = |scheme: Scheme, module| scheme.format_of(module, 128, 4).unwrap().unwrap().to_string();
        for module in ["layers.0.mlp.gate", "layers.0.mlp.shared_expert_gate"] {
            let wide = "codes of 8 bits in groups of 64 (affine)";
            assert_eq!(format(scheme(CodeMode::Mxfp4, None), module), wide);
            assert_eq!(format(scheme(CodeMode::Affine, None), module), wide);
            assert_ne!(format(scheme(CodeMode::Affine, Some(Recipe::ALL[3])), module), wide);
        }
        assert!(format(scheme(CodeMode::Mxfp4, None), "layers.0.mlp.gate_proj").ends_with("(mxfp4)"));
    }

    #[test]
    fn what_a_mode_does_not_have_is_refused() {
        let message =
            |mode, group_size, bits, recipe| Scheme::new(mode, group_size, bits, recipe).unwrap_err().to_string();
        assert_eq!(
            message(CodeMode::Mxfp4, None, None, Some(Recipe::ALL[0])),
            "the recipe `mixed_2_6` mixes widths of `affine` codes, found `mxfp4`"
        );
        assert_eq!(
            message(CodeMode::Affine, Some(48), None, None),
            "the mode `affine` has no groups of 48, only 32, 64, 128"
        );
    }
}
