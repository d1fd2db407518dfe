//! What machinery checks of every kernel.

use cotangent::{Session, kernel::check};

#[test]
fn every_kernel_has_the_gradient_it_declares() {
    let mut session = Session::new().unwrap();
    let kernels = cotangent_kernels::kernels();
    assert!(kernels.iter().any(|kernel| kernel.signature.name == "mrope"), "the registry is linked");
    for kernel in kernels {
        let report = check::check(&mut session, kernel).unwrap();
        println!("{report}");
        assert!(report.passed(), "{report}");
    }
}
