//! What each builtin does, in a sentence or two, for `:doc`. Says nothing that evaluation depends on.

/// Arguments and purpose of a builtin, by its name in `builtins`.
pub fn documentation(name: &str) -> Option<(&'static str, &'static str)> {
    TABLE.iter().find(|entry| entry.0 == name).map(|entry| (entry.1, entry.2))
}

#[rustfmt::skip]
const TABLE: &[(&str, &str, &str)] = &[
    ("abort", "message", "Ends the evaluation with a message; `tryEval` does not catch it."),
    ("add", "a b", "The sum of two numbers."),
    ("addDrvOutputDependencies", "string", "The string with its reference to a .drv file made one to that derivation with all its outputs."),
    ("addErrorContext", "message value", "The value; errors that come while it is computed tell the message too."),
    ("all", "predicate list", "Whether the predicate holds for every element."),
    ("any", "predicate list", "Whether the predicate holds for some element."),
    ("appendContext", "string context", "The string with the references of a set as `getContext` gives it added to its own."),
    ("attrNames", "set", "The names of a set's attributes in alphabetical order."),
    ("attrValues", "set", "The values of a set's attributes in the order of their names."),
    ("baseNameOf", "path", "What follows the last slash of a path or string."),
    ("bitAnd", "a b", "The bits that two integers have in common."),
    ("bitOr", "a b", "The bits that one of two integers has, or both."),
    ("bitXor", "a b", "The bits that exactly one of two integers has."),
    ("break", "value", "The value; a debugger would stop here."),
    ("catAttrs", "name list", "The values of one attribute in those sets of a list that have it."),
    ("ceil", "number", "The smallest integer that is not below a number."),
    ("compareVersions", "a b", "-1, 0 or 1: whether a version comes before another, is the same, or comes after it."),
    ("concatLists", "lists", "The elements of all lists in a list, as one list."),
    ("concatMap", "function list", "The lists a function gives for each element, as one list."),
    ("concatStringsSep", "separator list", "The strings of a list as one, with a separator between them."),
    ("convertHash", "{ hash, toHashFormat, hashAlgo }", "A hash in another form: `base16`, `nix32`, `base64` or `sri`."),
    ("deepSeq", "a b", "Computes `a` and everything in it, and gives `b`."),
    ("derivation", "attributes", "A derivation: how to build something. Needs `name`, `system` and `builder`."),
    ("derivationStrict", "attributes", "The paths of a derivation and of its outputs; `derivation` is made of it."),
    ("dirOf", "path", "What comes before the last slash of a path or string."),
    ("div", "a b", "A number divided by another; of integers without the remainder."),
    ("elem", "value list", "Whether a list has an element equal to a value."),
    ("elemAt", "list index", "An element by its index, counted from zero."),
    ("fetchGit", "url-or-attributes", "A folder of the store with the files of a git revision."),
    ("fetchMercurial", "url-or-attributes", "A folder of the store with the files of a Mercurial revision."),
    ("fetchTarball", "url-or-attributes", "A folder of the store with the contents of an archive."),
    ("fetchTree", "attributes", "A folder of the store with a source tree, by the attributes of a flake input."),
    ("fetchurl", "url-or-attributes", "A file of the store, downloaded while evaluating."),
    ("filter", "predicate list", "The elements for which a predicate holds."),
    ("filterSource", "predicate path", "A copy in the store of what a predicate, given path and kind, accepts. `builtins.path` says more."),
    ("findFile", "search-path name", "The path that `<name>` stands for in a search path."),
    ("flakeRefToString", "attributes", "A flake reference as a URL."),
    ("floor", "number", "The greatest integer that is not above a number."),
    ("foldl'", "function start list", "Joins the elements from the left, computing each step at once."),
    ("fromJSON", "text", "The value of a JSON text."),
    ("fromTOML", "text", "The set of a TOML text."),
    ("functionArgs", "function", "A set of the attributes a function takes; true for those with a default."),
    ("genList", "function length", "A list of what a function gives for 0, 1, 2 and so on."),
    ("genericClosure", "{ startSet, operator }", "All sets reached from the first ones by an operator, each `key` once."),
    ("getAttr", "name set", "An attribute whose name is computed."),
    ("getContext", "string", "The store paths and outputs a string refers to."),
    ("getEnv", "name", "A variable of the environment, or the empty string. Pure evaluation sees none."),
    ("getFlake", "reference", "The outputs of a flake, and facts about it."),
    ("groupBy", "function list", "Lists of the elements for which a function gives the same string, under that name."),
    ("hasAttr", "name set", "Whether a set has an attribute."),
    ("hasContext", "string", "Whether a string refers to anything in the store."),
    ("hashFile", "algorithm path", "The hash of a file's contents in base 16."),
    ("hashString", "algorithm string", "The hash of a string in base 16."),
    ("head", "list", "The first element."),
    ("import", "path", "The value of the file at a path; of a folder, that of its `default.nix`."),
    ("intersectAttrs", "a b", "The attributes of `b` whose names `a` has too."),
    ("isAttrs", "value", "Whether a value is a set."),
    ("isBool", "value", "Whether a value is true or false."),
    ("isFloat", "value", "Whether a value is a float."),
    ("isFunction", "value", "Whether a value is a function."),
    ("isInt", "value", "Whether a value is an integer."),
    ("isList", "value", "Whether a value is a list."),
    ("isNull", "value", "Whether a value is null."),
    ("isPath", "value", "Whether a value is a path."),
    ("isString", "value", "Whether a value is a string."),
    ("length", "list", "The number of elements."),
    ("lessThan", "a b", "Whether `a` comes before `b`; what `<` means."),
    ("listToAttrs", "list", "A set of elements `{ name, value }`; of equal names the first counts."),
    ("map", "function list", "What a function gives for each element."),
    ("mapAttrs", "function set", "A set with what a function, given name and value, gives for each attribute."),
    ("match", "regex string", "The groups of a POSIX extended regular expression that matches all of a string, or null."),
    ("mul", "a b", "The product of two numbers."),
    ("parseDrvName", "string", "The name and the version in a package's name: the version begins at the first `-` without a letter behind it."),
    ("parseFlakeRef", "url", "A flake reference as a set."),
    ("partition", "predicate list", "`right` has the elements for which a predicate holds, `wrong` the others."),
    ("path", "{ path, name, filter, recursive, sha256 }", "A copy of a file or folder in the store, with a name, a filter or an expected hash."),
    ("pathExists", "path", "Whether there is anything at a path."),
    ("placeholder", "output", "A string that is replaced by an output's path while its derivation is built."),
    ("readDir", "path", "A set from names in a folder to `regular`, `directory`, `symlink` or `unknown`."),
    ("readFile", "path", "The contents of a file."),
    ("readFileType", "path", "What lies at a path: `regular`, `directory`, `symlink` or `unknown`."),
    ("removeAttrs", "set names", "A set without some of its attributes."),
    ("replaceStrings", "from to string", "A string in which each of `from` is replaced by its fellow in `to`."),
    ("scopedImport", "variables path", "As `import`, where the file sees further variables."),
    ("seq", "a b", "Computes `a` to its outermost constructor, and gives `b`."),
    ("sort", "less-than list", "The elements in an order; equal ones stay as they were."),
    ("split", "regex string", "What lies between the matches of a regular expression, and between those lists of their groups."),
    ("splitVersion", "string", "The parts of a version that `compareVersions` compares."),
    ("storePath", "path", "A path of the store as a dependency, not copied again."),
    ("stringLength", "string", "The number of bytes in a string."),
    ("sub", "a b", "A number less another."),
    ("substring", "start length string", "A part of a string by bytes; a negative length means all the rest."),
    ("tail", "list", "All elements but the first."),
    ("throw", "message", "Ends the evaluation with a message, unless `tryEval` catches it."),
    ("toFile", "name text", "A file in the store with a text that refers to no derivation."),
    ("toJSON", "value", "A value as JSON; paths are copied to the store."),
    ("toPath", "string", "An absolute path as a string. `/. + string` gives a path."),
    ("toString", "value", "A value as a string: lists with spaces between, true as `1`, false and null as nothing."),
    ("toXML", "value", "A value as XML."),
    ("trace", "message value", "The value; the message is written when it is asked for."),
    ("traceVerbose", "message value", "As `trace`, where `trace-verbose` is set."),
    ("tryEval", "value", "`{ success, value }`; success is false where a `throw` or `assert` came."),
    ("typeOf", "value", "The name of a value's type, such as `set` or `lambda`."),
    ("unsafeDiscardOutputDependency", "string", "A string whose references to derivations are ones to their .drv files alone."),
    ("unsafeDiscardStringContext", "string", "A string that refers to nothing."),
    ("unsafeGetAttrPos", "name set", "Where an attribute is defined: `file`, `line` and `column`, or null."),
    ("warn", "message value", "The value; the message is written as a warning."),
    ("zipAttrsWith", "function sets", "A set with what a function, given a name and all values under it, gives for each name."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_function_is_documented() {
        let names: Vec<_> = crate::builtins::TABLE
            .iter()
            .filter(|builtin| !crate::builtins::is_hidden(builtin))
            .map(|builtin| builtin.name.trim_start_matches("__"))
            .collect();
        let missing: Vec<_> = names.iter().filter(|name| documentation(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
