//! The builders inside rednix, by name. The functions live in their rooms; here they only get their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rednix_build::Builtins;
use serde_json::Value;

type Outputs = BTreeMap<String, PathBuf>;

/// All of them have one output.
fn one<E: std::error::Error + 'static>(
    function: fn(&Value, &Path) -> Result<(), E>,
) -> impl Fn(&Value, &Outputs) -> Result<(), String> + Send + Sync + 'static {
    move |attributes, outputs| {
        let output = outputs.get("out").ok_or("the derivation has no output `out`")?;
        function(attributes, output).map_err(|error| crate::failure::chain(&error))
    }
}

pub fn registry() -> Builtins {
    Builtins::new()
        .register("rednix-unpack-deb", one(rednix_fetch::unpack_deb))
        .register("rednix-unpack", one(rednix_fetch::unpack))
        .register("rednix-vendor", one(rednix_fetch::vendor))
        .register("rednix-tree", one(rednix_fetch::tree))
        .register("rednix-initfs", one(rednix_image::builtin::initfs))
        .register("rednix-image", one(image))
}

/// What the image's builder has to say goes to the build's log; the warnings are in the image's manifest too.
fn image(attributes: &Value, output: &Path) -> rednix_image::Result<()> {
    let written = rednix_image::builtin::image(attributes, output)?;
    for note in &written.notes {
        eprintln!("{note}");
    }
    for warning in &written.manifest.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}
