//! Dependencies point one way, and ARCHITECTURE.md names what exists.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Table;

/// What a package may depend on, dev-dependencies aside; `None` lets it have any outside package that no
/// rule below forbids.
struct Layer {
    name: &'static str,
    /// Packages of this workspace.
    inside: &'static [&'static str],
    /// Packages from elsewhere.
    outside: Option<&'static [&'static str]>,
}

const LAYERS: &[Layer] = &[
    Layer {
        name: "ringmq",
        inside: &[
            "ringmq-codec",
            "ringmq-client",
            "ringmq-engine",
            "ringmq-loadgen",
            "ringmq-shards",
            "ringmq-storage",
            "ringmq-turn",
        ],
        outside: None,
    },
    Layer { name: "ringmq-codec", inside: &[], outside: Some(&["bytes", "thiserror"]) },
    Layer { name: "ringmq-turn", inside: &[], outside: Some(&["bytes", "thiserror"]) },
    Layer {
        name: "ringmq-storage",
        inside: &["ringmq-codec", "ringmq-turn"],
        outside: Some(&["bytes", "hashbrown", "memmap2", "crc32fast", "rustix", "thiserror", "tracing"]),
    },
    Layer {
        name: "ringmq-engine",
        inside: &["ringmq-codec", "ringmq-storage", "ringmq-turn"],
        outside: Some(&["bytes", "foldhash", "hashbrown", "thiserror", "tracing"]),
    },
    Layer { name: "ringmq-shards", inside: &["ringmq-turn"], outside: None },
    Layer {
        name: "ringmq-client",
        inside: &["ringmq-codec", "ringmq-shards", "ringmq-storage", "ringmq-turn"],
        outside: None,
    },
    Layer {
        name: "ringmq-loadgen",
        inside: &["ringmq-client", "ringmq-codec", "ringmq-shards", "ringmq-turn"],
        outside: None,
    },
    // The programs that measure: nothing depends on it.
    Layer {
        name: "ringmq-benches",
        inside: &["ringmq-codec", "ringmq-loadgen", "ringmq-shards", "ringmq-turn"],
        outside: None,
    },
    Layer { name: "ringmq-sim", inside: &["ringmq-turn"], outside: None },
];

/// Packages that only one package of the workspace may name.
const RESERVED: &[(&str, &str)] = &[
    ("glommio", "ringmq-shards"),
    ("io-uring", "ringmq-shards"),
    ("memmap2", "ringmq-storage"),
    ("ring", "ringmq-shards"),
    ("rustls", "ringmq-shards"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn manifest(folder: &Path) -> Table {
    let path = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The root's manifest and those of all members.
fn manifests() -> Vec<Table> {
    let top = manifest(&root());
    let members = top["workspace"]["members"].as_array().expect("a list of members").clone();
    let folders = members.iter().map(|member| root().join(member.as_str().expect("a path")));
    let mut all: Vec<Table> = folders.map(|folder| manifest(&folder)).collect();
    all.push(top);
    all
}

fn name(manifest: &Table) -> &str {
    manifest["package"]["name"].as_str().expect("a package has a name")
}

/// The names below `kind` at the top and below every target.
fn dependencies(manifest: &Table, kind: &str) -> BTreeSet<String> {
    let targets = manifest.get("target").and_then(|targets| targets.as_table()).into_iter().flatten();
    let tables = targets.map(|(_, target)| target.get(kind)).chain([manifest.get(kind)]).flatten();
    let tables = tables.filter_map(|table| table.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn dependencies_point_one_way() {
    for manifest in manifests() {
        let name = name(&manifest);
        let layer = LAYERS.iter().find(|layer| layer.name == name);
        let layer = layer.unwrap_or_else(|| panic!("{name} has no layer: add it to tests/layers.rs"));
        for dependency in dependencies(&manifest, "dependencies") {
            if dependency.starts_with("ringmq-") || dependency == "ringmq" {
                let allowed = layer.inside.contains(&dependency.as_str());
                assert!(allowed, "{name} may not depend on {dependency}: see ARCHITECTURE.md");
            } else if let Some(outside) = layer.outside {
                let allowed = outside.contains(&dependency.as_str());
                assert!(
                    allowed,
                    "{name} may not depend on {dependency}: it knows no runtime and performs no I/O"
                );
            }
        }
    }
}

#[test]
fn some_packages_are_named_in_one_place() {
    for manifest in manifests() {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for dependency in dependencies(&manifest, kind) {
                let reserved = RESERVED.iter().find(|(package, _)| *package == dependency);
                if let Some((package, owner)) = reserved {
                    assert_eq!(&name(&manifest), owner, "only {owner} may name {package}");
                }
            }
        }
    }
}

#[test]
fn what_forbids_unsafe_code_says_so() {
    for file in [
        "src/lib.rs",
        "src/main.rs",
        "codec/src/lib.rs",
        "turn/src/lib.rs",
        "engine/src/lib.rs",
        "client/src/lib.rs",
        "loadgen/src/lib.rs",
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file} does not forbid unsafe code");
    }
}

#[test]
fn unsafe_code_lives_in_few_files() {
    const ALLOWED: &[&str] = &[
        "shards/src/buffers.rs",
        "shards/src/lane.rs",
        "shards/src/ring.rs",
        "shards/src/sys.rs",
        "storage/src/mapping.rs",
    ];
    let mut seen = 0;
    for folder in ["shards/src", "storage/src", "sim/src"] {
        for path in files_below(&root().join(folder)) {
            let text = std::fs::read_to_string(&path).unwrap();
            let is_unsafe = ["unsafe {", "unsafe impl", "unsafe fn"].iter().any(|word| text.contains(word));
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
            assert!(!is_unsafe || ALLOWED.contains(&name), "{name} has unsafe code");
            seen += usize::from(is_unsafe);
        }
    }
    assert_eq!(seen, ALLOWED.len(), "each file that may have unsafe code has some");
}

/// All files in a folder and the folders in it.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn the_map_names_what_exists() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut seen = 0;
    // Every odd piece between backticks is code; what has a slash or a known ending is a path.
    for piece in text.split('`').skip(1).step_by(2) {
        let looks_like_a_path =
            piece.contains('/') || [".rs", ".md", ".toml"].iter().any(|end| piece.ends_with(end));
        let is_plain = piece.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
        if looks_like_a_path && is_plain {
            assert!(root().join(piece).exists(), "ARCHITECTURE.md names {piece}, which does not exist");
            seen += 1;
        }
    }
    assert!(seen > 10, "ARCHITECTURE.md names {seen} paths only");
}
