# Patterns of optional packages → POSIX extended regular expressions over a path. They mean what Rust's globset
# makes of them with its default options: `*` and `?` also match `/`, a `**` between slashes spans folders, `[…]` is
# a set, `{a,b}` a choice, `\` takes the next character as it is. No file system here, and no matching.
{ lib }:

let
  inherit (builtins) concatMap concatStringsSep elem elemAt filter genList head length map stringLength substring tail;

  characters = text: genList (at: substring at 1 text) (stringLength text);
  init = list: genList (elemAt list) (length list - 1);

  # A character that stands for itself.
  literal = c:
    if c == "^" || c == "\\" then "\\${c}"
    else if elem c [ "." "*" "[" "]" "(" ")" "+" "?" "{" "}" "|" "$" ] then "[${c}]"
    else c;
  literalToken = c: { kind = "literal"; regex = literal c; };

  star = { kind = "star"; regex = ".*"; };
  anything = { kind = "any"; regex = "."; };
  # `**/` at the start, `/**` at the end, `/**/` in between.
  folders = {
    first = { kind = "first"; regex = "(/?|.*/)"; };
    last = { kind = "last"; regex = "/.*"; };
    middle = { kind = "middle"; regex = "(/|/.*/)"; };
  };

  joined = tokens:
    if map (t: t.kind) tokens == [ "first" ] then ".*" else concatStringsSep "" (map (t: t.regex) tokens);

  # A bracket expression wants `]` first, `-` last, `^` not first and `[` not before `.`, `:` or `=`.
  set = negated: items:
    let
      singles = filter (item: stringLength item == 1) items;
      ranges = filter (item: stringLength item == 3) items;
      has = c: lib.optionalString (elem c singles) c;
      rest = concatStringsSep "" (filter (c: !(elem c [ "]" "[" "^" "-" ])) singles);
      start = "${has "]"}${rest}${concatStringsSep "" ranges}${has "["}";
      # The end of a range belongs to it, so it may stand in front.
      inside = if !negated && lib.hasPrefix "^" start then "${substring 2 1 start}${start}" else start;
    in
    if negated then "[^${inside}${has "^"}${has "-"}]"
    else if inside == "" then (if has "^" == "" then "[-]" else if has "-" == "" then "\\^" else "[-^]")
    else "[${inside}${has "^"}${has "-"}]";
in
rec {
  # The expression for one pattern; it is meant to cover the whole path.
  toRegex = pattern:
    let
      cs = characters pattern;
      end = length cs;
      at = i: if i >= 0 && i < end then elemAt cs i else null;
      bad = why: throw "the pattern `${pattern}` of an optional package ${why}";

      # `branches` is a stack: the innermost `{…}` first, each with its finished alternatives and its current tokens.
      push = branches: token: [ (head branches // { tokens = (head branches).tokens ++ [ token ]; }) ] ++ tail branches;
      close = branch: filter (regex: regex != "") (branch.done ++ [ (joined branch.tokens) ]);

      go = i: branches:
        let c = at i; in
        if c == null then
          (if length branches > 1 then bad "opens a `{` that nothing closes" else joined (head branches).tokens)
        else if c == "?" then go (i + 1) (push branches anything)
        else if c == "*" then stars i branches
        else if c == "[" then classAt (i + 1) branches
        else if c == "\\" then
          (if at (i + 1) == null then bad "ends in `\\`" else go (i + 2) (push branches (literalToken (at (i + 1)))))
        else if c == "{" then go (i + 1) ([ { done = [ ]; tokens = [ ]; } ] ++ branches)
        else if c == "," && length branches > 1 then
          go (i + 1) ([ { done = (head branches).done ++ [ (joined (head branches).tokens) ]; tokens = [ ]; } ] ++ tail branches)
        else if c == "}" then
          (if length branches == 1 then bad "closes a `}` that nothing opened"
          else
            let choices = close (head branches);
            in go (i + 1) (push (tail branches) {
              kind = "choice";
              regex = lib.optionalString (choices != [ ]) "(${concatStringsSep "|" choices})";
            }))
        else go (i + 1) (push branches (literalToken c));

      # Two stars span folders only where slashes, or the pattern's or a choice's ends, stand on both sides.
      stars = i: branches:
        let
          inner = length branches > 1;
          tokens = (head branches).tokens;
          before = at (i - 1);
          after = at (i + 2);
          plain = go (i + 2) (push (push branches star) star);
          ends = after == null || (inner && elem after [ "," "}" ]);
          replaced = [ (head branches // { tokens = init tokens; }) ] ++ tail branches;
          previous = (lib.last tokens).kind;
          spanning =
            if previous == "first" then folders.first
            else if previous == "last" then folders.last
            else if ends then folders.last
            else folders.middle;
        in
        if at (i + 1) != "*" then go (i + 1) (push branches star)
        else if tokens == [ ] then
          (if after == null || after == "/" then go (i + 3) (push branches folders.first) else plain)
        else if before != "/" && !(inner && elem before [ "," "{" ]) then plain
        else if ends then go (i + 2) (push replaced spanning)
        else if after == "/" then go (i + 3) (push replaced spanning)
        else plain;

      # A `-` between two characters makes a range of the last one, and again makes that range longer.
      classAt = i: branches:
        let
          negated = elem (at i) [ "!" "^" ];
          start = if negated then i + 1 else i;
          collect = j: ranges: open:
            let
              c = at j;
              from = substring 0 1 (lib.last ranges);
            in
            if c == null then bad "opens a `[` that nothing closes"
            else if c == "]" && j > start then { ranges = ranges ++ lib.optional open "-"; next = j + 1; }
            else if c == "-" && j > start && !open then collect (j + 1) ranges true
            else if !open then collect (j + 1) (ranges ++ [ c ]) false
            else if from > c then bad "has the range `${from}-${c}`, which runs backwards"
            else collect (j + 1) (init ranges ++ [ (if from == c then c else "${from}-${c}") ]) false;
          found = collect start [ ] false;
        in
        go found.next (push branches { kind = "set"; regex = set negated found.ranges; });
    in
    go 0 [ { done = [ ]; tokens = [ ]; } ];

  # What decides which optional package takes a file: `name<tab>expression` a line, in the recipe's order.
  claims = optionalPackages: concatStringsSep "\n"
    (concatMap (optional: map (glob: "${optional.name}\t${toRegex glob}") (optional.files or [ ])) optionalPackages);
}
