//! `advect config show`: every value with where it came from.

use super::args::JobArgs;
use super::table::Table;
use super::{print_line, run};
use crate::error::Result;

/// Prints the merged configuration, as a table or as TOML.
pub(crate) fn show(args: &JobArgs, toml: bool) -> Result<()> {
    let (_, config) = run::job(args)?;
    if toml {
        print_line(config.to_toml().trim_end());
        return Ok(());
    }
    let mut table = Table::new(&["key", "value", "from"]);
    for (key, setting) in config.settings() {
        let text = setting.text();
        let value = text.split_whitespace().collect::<Vec<_>>().join(" ");
        table.row([key.to_owned(), value, setting.origin().to_string()]);
    }
    table.print();
    Ok(())
}
