//! `advect bench`: figures beside a reference.

use super::args::BenchArgs;
use super::table::Table;
use crate::bench;
use crate::error::Result;

/// Lists the benchmarks, or runs one.
pub(crate) fn bench(args: &BenchArgs) -> Result<()> {
    if let (Some(name), false) = (&args.name, args.list) {
        let options = bench::Options {
            quick: args.quick,
            peers: !args.no_peers,
            ..bench::Options::default()
        };
        bench::run(name, &options)?;
        return Ok(());
    }
    let mut table = Table::new(&["benchmark", "measures"]);
    for bench in bench::list() {
        table.row([bench.name.to_owned(), bench.about.to_owned()]);
    }
    table.print();
    Ok(())
}
