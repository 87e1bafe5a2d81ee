//! `advect data`: what data sets there are, and getting one.

use super::args::DataCommand;
use super::print_line;
use super::table::Table;
use crate::data;
use crate::error::Result;

/// Lists the data sets or downloads one.
pub(crate) fn data(command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::List => {
            let folder = data::folder();
            let mut table = Table::new(&["name", "size", "here", "licence", "origin"]);
            for set in data::CATALOGUE {
                let here = folder.as_ref().is_some_and(|f| set.is_present(f));
                table.row([
                    set.name.to_owned(),
                    crate::plan::bytes(set.bytes),
                    if here { "yes" } else { "no" }.to_owned(),
                    set.licence.to_owned(),
                    set.origin.to_string(),
                ]);
            }
            table.print();
            let place = folder.map_or_else(|| "not set".to_owned(), |f| f.display().to_string());
            print_line(&format!("\nADVECT_DATA: {place}"));
            Ok(())
        }
        DataCommand::Get { name, to } => {
            let set = data::find(name)?;
            let folder = to
                .clone()
                .or_else(data::folder)
                .unwrap_or_else(|| "data".into());
            let path = data::get(set, &folder)?;
            print_line(&format!(
                "{}: SHA-256 {} is right",
                path.display(),
                set.sha256
            ));
            print_line(&format!("licence: {}; {}", set.licence, set.attribution));
            Ok(())
        }
    }
}
