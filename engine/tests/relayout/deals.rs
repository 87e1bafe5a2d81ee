//! Axes that deal out in other ways than blocks, and pieces that go around them.

use advect_engine::{DType, Deal, Layout, Mesh, Placement, Relayout};

use super::{check, check_all_pairs, halos, kinds};

/// All pairs on axes that deal out in other ways than blocks, alone, and outside and inside of another axis.
#[test]
fn value_and_adjoint_of_deals() {
    for deal in [Deal::ZigZag, Deal::Striped] {
        for workers in [1, 2, 3, 4] {
            let mesh = Mesh::line("x", workers).dealing(0, deal);
            for x in kinds(workers) {
                for y in kinds(workers) {
                    check(&mesh, &Layout::new([x]), &Layout::new([y]));
                }
            }
        }
        for (sizes, dealt) in [([2, 2], 0), ([2, 2], 1), ([3, 2], 0)] {
            let mesh = Mesh::new([("x", sizes[0]), ("y", sizes[1])]).unwrap();
            let mesh = mesh.dealing(dealt, deal);
            check_all_pairs(&mesh);
        }
    }
}

/// A piece that goes one place on is sent once, and its cotangent comes back so; a halo is for blocks, and
/// a piece goes around less than once.
#[test]
fn shifts_send_their_piece() {
    let shape = [24, 48];
    for p in [2usize, 3, 4, 8] {
        let mesh = Mesh::line("x", p);
        let shifted = |by| Layout::new([Placement::Shifted { dim: 0, by }]);
        for by in 1..p {
            let plan =
                Relayout::plan(&mesh, &shape, DType::F32, &shifted(by - 1), &shifted(by)).unwrap();
            let back = plan.adjoint().unwrap();
            for w in 0..p {
                assert_eq!(plan.bytes_sent(w), 24 * 48 * 4 / p, "{by} of {p}");
                assert_eq!(back.bytes_sent(w), 24 * 48 * 4 / p, "{by} of {p}");
            }
        }
        let said = shifted(p).check(&mesh, &shape, DType::F32).unwrap_err();
        assert!(said.to_string().contains("shifted by"), "{said}");
        let zig_zag = mesh.dealing(0, Deal::ZigZag);
        let halo = Layout::new([halos()[0]]);
        let said = halo.check(&zig_zag, &shape, DType::F32).unwrap_err();
        assert!(said.to_string().contains("blocks"), "{said}");
    }
}
