//! What each code in an error message means, a page a code: why it is refused, what to do, a wrong and a right program.
//!
//! The pages are in `docs/errors` as well. `cargo xtask explain C05` prints one.

macro_rules! pages {
    ($($code:ident,)*) => {$(
        #[allow(non_snake_case)]
        #[doc = include_str!(concat!("../../docs/errors/", stringify!($code), ".md"))]
        pub mod $code {}
    )*};
}

pages!(C01, C02, C03, C04, C05, C06, C07, C08, C09, C10, C11, C12, C13, C14, C15, C16, C17, C18, C20, C21, C22,);
