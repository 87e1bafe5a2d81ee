//! Nothing is lost silently, and what does not fit is named.

use advect_operators::OperatorError;
use advect_operators::local::{DType, Tape, Tensor};

use crate::{Result, device, flat, ids, tensor};

/// A gradient that nothing connects to an output is an error that names the input; where it may be absent,
/// it is absent.
#[test]
fn cut_paths_are_errors_that_name_the_input() -> Result<()> {
    let mut tape = Tape::new();
    let x = tape.input("positions", &tensor(&[3], 1));
    let unused = tape.input("charges", &tensor(&[3], 2));
    let mask = tape.above(unused, 0.0)?;
    let square = tape.sqr(x)?;
    let y = tape.choose(mask, square, x)?;
    let one = tape.ones_like(y)?;
    let refused = tape.gradients(&[y], &[one], &[x, unused]);
    let expected = OperatorError::NoPath {
        input: "charges".to_owned(),
    };
    assert_eq!(refused, Err(expected.clone()));
    assert!(expected.to_string().starts_with("charges has no gradient"));
    let found = tape.gradients_if_any(&[y], &[one], &[x, unused])?;
    assert!(found[0].is_some() && found[1].is_none());
    let mut came = 0;
    let seed = tensor(&[3], 3);
    let refused = tape.sweep_with(&[y], &[seed], &[x, unused], |_| {
        came += 1;
        Ok(())
    });
    assert_eq!((refused, came), (Err(expected), 0));
    Ok(())
}

/// An input that one result of a segment reads and the asked one does not, has no path.
#[test]
fn cut_paths_are_seen_through_segments() -> Result<()> {
    let mut tape = Tape::new();
    let [x, z] = [1, 2].map(|seed| tape.input(format!("x{seed}"), &tensor(&[3], seed)));
    let made = tape.remake(&[x, z], |tape, x| {
        Ok(vec![tape.sin(x[0])?, tape.mul(x[0], x[1])?])
    })?;
    let one = tape.ones_like(made[0])?;
    let refused = tape.gradients(&made[..1], &[one], &[x, z]);
    assert!(matches!(refused, Err(OperatorError::NoPath { input }) if input == "x2"));
    let found = tape.gradients(&made, &[one, one], &[z, x])?;
    assert_eq!(flat(tape.value(found[0])?), flat(tape.value(x)?));
    Ok(())
}

/// Whole numbers have no gradient, whatever they become.
#[test]
fn cut_at_whole_numbers() -> Result<()> {
    let mut tape = Tape::new();
    let whole = tape.input("species", &Tensor::new(&[1_i64, 2], &device())?);
    let real = tape.cast(whole, DType::F64)?;
    let one = tape.ones_like(real)?;
    let refused = tape.gradients(&[real], &[one], &[whole]);
    assert!(matches!(refused, Err(OperatorError::NoPath { input }) if input == "species"));
    Ok(())
}

/// What does not fit is refused with what was given, and nothing panics.
#[test]
fn cut_short_is_no_operation_that_does_not_fit() -> Result<()> {
    let mut tape = Tape::new();
    let x = tape.input("x", &tensor(&[2, 3], 1));
    let y = tape.input("y", &tensor(&[4, 5], 1));
    let ids = ids(&mut tape, &[0, 2]);
    let single = tape.cast(x, DType::F32)?;
    let refused = [
        tape.add(x, y),
        tape.add(x, single),
        tape.matmul(x, y),
        tape.matmul(ids, x),
        tape.gather_rows(x, ids),
        tape.gather_rows(x, y),
        tape.segment_sum(y, ids, 3),
        tape.reshape(x, &[4]),
        tape.permute(x, &[0, 0]),
        tape.broadcast(x, &[3, 3]),
        tape.narrow(x, 1, 2, 2),
        tape.narrow(x, 4, 0, 1),
        tape.pad(x, 3, 1, 1),
        tape.concat(&[], 0),
        tape.concat(&[x, y], 0),
        tape.concat(&[x], 7),
        tape.sum(x, &[2]),
        tape.transpose(ids),
        tape.choose(x, x, x),
    ];
    for (i, refused) in refused.into_iter().enumerate() {
        assert!(
            matches!(refused, Err(OperatorError::Tensor { .. })),
            "case {i}: {refused:?}"
        );
    }
    let sum = tape.sum_all(x)?;
    assert!(
        tape.gradients(&[sum], &[x], &[x]).is_err(),
        "cotangent of another shape"
    );
    assert!(tape.gradients(&[sum], &[], &[x]).is_err(), "no cotangent");
    let mut other = Tape::new();
    assert!(other.exp(x).is_err(), "a handle of another tape");
    Ok(())
}

/// An id is a row or the largest of its type, which is none; others are refused before anything is read.
#[test]
fn cut_ids_are_named() -> Result<()> {
    let mut tape = Tape::new();
    let x = tape.input("x", &tensor(&[4, 2], 1));
    for wrong in [-1, 4, i64::MIN, i64::MAX - 1] {
        let ids = ids(&mut tape, &[3, i64::MAX, wrong, 0]);
        for refused in [tape.gather_rows(x, ids), tape.segment_sum(x, ids, 4)] {
            let said = refused.expect_err("no such row").to_string();
            let expected = format!("there is no row {wrong} of 4");
            assert!(said.contains(&expected), "{said}");
        }
    }
    let short = tape.constant(&Tensor::new(&[3, u32::MAX, 0, 0], &device())?);
    let rows = tape.gather_rows(x, short)?;
    assert_eq!(flat(tape.value(rows)?)[2..4], [0.0; 2]);
    assert!(tape.segment_sum(x, short, 3).is_err(), "row 3 of 3");
    Ok(())
}

/// Pieces may be empty: a worker that has no rows.
#[test]
fn cut_to_nothing_is_still_swept() -> Result<()> {
    let mut tape = Tape::new();
    let x = tape.input("x", &tensor(&[0, 3], 1));
    let w = tape.input("w", &tensor(&[3, 2], 2));
    let none = ids(&mut tape, &[]);
    let product = tape.matmul(x, w)?;
    let shares = tape.softmax(product)?;
    let logs = tape.log_softmax(shares)?;
    let both = tape.concat(&[shares, logs], 1)?;
    let rows = tape.segment_sum(both, none, 4)?;
    let back = tape.gather_rows(rows, none)?;
    let sum = tape.sum_all(back)?;
    let found = tape.sweep(&[sum], &[Tensor::new(1.0, &device())?], &[w, x])?;
    assert_eq!(flat(&found[0]), [0.0; 6]);
    assert_eq!(found[1].dims(), [0, 3]);
    Ok(())
}

/// A function of whole numbers, and more rows than can be held, are refused and no end of the program.
#[test]
fn verbs_refuse_what_does_not_fit() -> Result<()> {
    let mut tape = Tape::new();
    let whole = tape.input("species", &Tensor::new(&[1_i64, 2], &device())?);
    for made in [tape.exp(whole), tape.relu(whole), tape.softmax(whole)] {
        let why = made.expect_err("it has no derivative").to_string();
        assert!(why.contains("species is of I64"), "{why}");
    }
    let x = tape.input("x", &tensor(&[2, 3], 1));
    let why = tape.segment_sum(x, whole, usize::MAX);
    let why = why.expect_err("it is too large").to_string();
    assert!(why.contains("give fewer rows"), "{why}");
    Ok(())
}
