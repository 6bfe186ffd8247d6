//! Which files are plugins.

use std::path::Path;

use iggy_connector_sdk::host::{HostError, Plugin};

use crate::support::{example, new_id, original};

#[test]
fn extension_is_optional() {
    let bare = example("original_style_sink");
    let whole = bare.with_extension(std::env::consts::DLL_EXTENSION);
    assert_eq!(Plugin::load(&bare).unwrap().path(), Plugin::load(&whole).unwrap().path());
}

#[test]
fn version_is_that_of_the_plugin_crate() {
    assert_eq!(original().version(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn loading_twice_is_one_plugin() {
    let again = Plugin::load(&example("original_style_sink")).unwrap();
    let id = new_id();
    assert_eq!(original().open(id, "null", crate::support::log), 0);
    assert_eq!(again.open(id, "null", crate::support::log), -1);
    assert_eq!(again.close(id), 0);
    assert_eq!(original().close(id), -1);
}

#[test]
fn what_is_no_plugin_is_named() {
    let missing = Plugin::load(Path::new("/nowhere/plugin")).unwrap_err();
    assert!(matches!(&missing, HostError::NotFound { path } if path.ends_with("plugin.so")), "{missing}");

    let dotted = Plugin::load(Path::new("plugin-0.1")).unwrap_err();
    assert!(matches!(&dotted, HostError::NotFound { path } if path.ends_with("plugin-0.1.so")), "{dotted}");

    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library").unwrap();
    let error = Plugin::load(&text).unwrap_err();
    assert!(matches!(&error, HostError::Load { path, .. } if *path == text), "{error}");

    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap();
    let link = folder.path().join("other.so");
    std::os::unix::fs::symlink(library, &link).unwrap();
    let error = Plugin::load(&link).unwrap_err().to_string();
    assert_eq!(error, format!("{} is not a sink plugin: it does not export iggy_sink_open", link.display()));
}

#[test]
fn plugins_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Plugin>();
}
