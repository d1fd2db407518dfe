//! Checks that the parameters of one struct have distinct names, as far as the struct and its flattened fields show it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{GenericArgument, PathArguments, Type};

use super::{Branch, BranchKind, Shape, Tree, at_one_place};
use crate::catalogue::Code;

impl Tree {
    /// The names of the tensors that stand in the tree directly, for those that it is flattened into.
    pub(super) fn names_of_leaves(&self) -> TokenStream {
        let parameters = self.paths.parameters(quote!(Parameters));
        let (own, flattened): (Vec<&str>, Vec<&Type>) = match &self.shape {
            Shape::Struct(branches) => {
                let flat = |branch: &&Branch| matches!(branch.kind, BranchKind::Flat);
                let flattened = branches.iter().filter(flat).map(|branch| &branch.ty);
                (branches.iter().filter_map(Branch::leaf).collect(), flattened.collect())
            }
            Shape::Enum(variants) => (Vec::new(), variants.iter().map(|(_, ty)| ty).collect()),
        };
        if own.is_empty() && flattened.is_empty() {
            return TokenStream::new();
        }
        let leaves = self.paths.private(quote!(Leaves));
        let flattened: Vec<TokenStream> = flattened.into_iter().map(at_one_place).collect();
        quote! {
            const LEAVES: &'static #leaves = &#leaves {
                own: &[#(#own),*],
                flattened: &[#(<#flattened as #parameters>::LEAVES),*],
            };
        }
    }

    /// Makes the compiler compare the names of flattened fields with those beside them, because only it sees them.
    pub(super) fn distinct_names(&self, branches: &[Branch]) -> TokenStream {
        if !branches.iter().any(|branch| matches!(branch.kind, BranchKind::Flat)) {
            return TokenStream::new();
        }
        let parameters = self.paths.parameters(quote!(Parameters));
        let mut meets = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            let ty = at_one_place(&branch.ty);
            let flat = matches!(branch.kind, BranchKind::Flat);
            for (before, other) in branches[..index].iter().enumerate() {
                let earlier = at_one_place(&other.ty);
                let condition = match (flat, &other.kind, branch.leaf(), other.leaf()) {
                    (true, BranchKind::Flat, ..) => {
                        quote!(<#ty as #parameters>::LEAVES.meets(<#earlier as #parameters>::LEAVES))
                    }
                    (true, _, _, Some(name)) => quote!(<#ty as #parameters>::LEAVES.has(#name)),
                    (false, BranchKind::Flat, Some(name), _) => quote!(<#earlier as #parameters>::LEAVES.has(#name)),
                    _ => continue,
                };
                // The error is shown at the flattened field of the two.
                let place = if flat { index } else { before };
                meets.push((place, condition));
            }
        }
        if meets.is_empty() {
            return TokenStream::new();
        }
        let (places, conditions): (Vec<usize>, Vec<TokenStream>) = meets.into_iter().unzip();
        let checks = branches.iter().enumerate().filter(|(_, branch)| matches!(branch.kind, BranchKind::Flat));
        let checks =
            checks.map(|(index, branch)| quote_spanned!(branch.ty.span()=> distinct::<Names<{ FIRST == #index }>>();));
        let (mode, stored) = (&self.mode, self.paths.item(quote!(Stored)));
        let message = format!("two parameters of `{}` have one name [{}]", self.name, Code::C21);
        quote! {
            #[allow(dead_code)]
            const _: () = {
                type #mode = #stored;
                /// The first field that has a name in common with another.
                const FIRST: usize = #(if #conditions { #places } else)* { usize::MAX };
                #[diagnostic::on_unimplemented(
                    message = #message,
                    label = "has a parameter whose name another field of the struct has too",
                    note = "rename one of the two with `#[parameters(rename = \"..\")]`, or do not flatten the field"
                )]
                trait Distinct {}
                struct Names<const MEET: bool>;
                impl Distinct for Names<false> {}
                fn distinct<T: Distinct>() {}
                fn names_are_distinct() { #(#checks)* }
            };
        }
    }
}

impl Branch {
    /// The name of the one tensor that the field holds, as far as its type shows it.
    fn leaf(&self) -> Option<&str> {
        match &self.kind {
            BranchKind::Named(name) if is_tensor(&self.ty) => Some(name),
            _ => None,
        }
    }
}

/// `Tensor<M>`, in an option or a box or not.
fn is_tensor(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    let Some(last) = path.path.segments.last() else { return false };
    match &last.arguments {
        _ if last.ident == "Tensor" => true,
        PathArguments::AngleBracketed(arguments) if last.ident == "Option" || last.ident == "Box" => {
            matches!(arguments.args.first(), Some(GenericArgument::Type(inner)) if is_tensor(inner))
        }
        _ => false,
    }
}

/// Returns whether two fields hold parameters of the same names for certain.
pub(super) fn is_called_alike(one: &Branch, other: &Branch) -> bool {
    match (&one.kind, &other.kind) {
        (BranchKind::Named(name), BranchKind::Named(again)) => {
            let same_type = || one.ty.to_token_stream().to_string() == other.ty.to_token_stream().to_string();
            name == again && (is_tensor(&one.ty) && is_tensor(&other.ty) || same_type())
        }
        _ => false,
    }
}
