//! Names the evaluator itself asks for.

use rednix_syntax::{Interner, Symbol};

macro_rules! symbols {
    ($($field:ident = $text:literal,)*) => {
        #[derive(Clone, Copy)]
        pub(crate) struct Symbols { $(pub $field: Symbol,)* }

        impl Symbols {
            pub fn new(interner: &mut Interner) -> Symbols {
                Symbols { $($field: interner.intern($text.as_bytes()),)* }
            }
        }
    };
}

symbols! {
    functor = "__functor",
    to_string = "__toString",
    out_path = "outPath",
    drv_path = "drvPath",
    kind = "type",
    name = "name",
    value = "value",
    key = "key",
    start_set = "startSet",
    operator = "operator",
    right = "right",
    wrong = "wrong",
    success = "success",
    outputs = "outputs",
    output_name = "outputName",
    path = "path",
    all_outputs = "allOutputs",
    sha256 = "sha256",
    filter = "filter",
    recursive = "recursive",
    prefix = "prefix",
    builder = "builder",
    system = "system",
    args = "args",
    ignore_nulls = "__ignoreNulls",
    structured_attrs = "__structuredAttrs",
    content_addressed = "__contentAddressed",
    impure = "__impure",
    output_hash = "outputHash",
    output_hash_algo = "outputHashAlgo",
    output_hash_mode = "outputHashMode",
    hash = "hash",
    hash_algo = "hashAlgo",
    to_hash_format = "toHashFormat",
    file = "file",
    line = "line",
    column = "column",
    version = "version",
    builtins = "builtins",
    sub = "__sub",
    mul = "__mul",
    div = "__div",
    less_than = "__lessThan",
    find_file = "__findFile",
    nix_path = "__nixPath",
    overrides = "__overrides",
    recurse_for_derivations = "recurseForDerivations",
}
