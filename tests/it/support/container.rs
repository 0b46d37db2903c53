//! Servers in containers: the images that `cargo xtask images` builds, or published ones that take the superuser's
//! password from `POSTGRES_PASSWORD`.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
};

use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort, runners::SyncRunner};

use super::server::{PASSWORD, Place};

/// Starts a container, and the guard that will remove it; see `container-guard.sh`.
pub(super) fn prepare(image: &str, port: u16) -> (Place, Child) {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    let request = GenericImage::new(name, tag)
        // A port of our choice: the engine would choose another one at a restart.
        .with_mapped_port(port, 5432.tcp())
        .with_env_var("POSTGRES_PASSWORD", PASSWORD);
    // On a thread of its own, since the caller may stand in an asynchronous runtime.
    let started = thread::spawn(move || {
        let container = request.start().expect("the image can be run; `cargo xtask images` builds it");
        let id = container.id().to_owned();
        // Shared servers live in statics, which are never dropped: the guard removes the container.
        std::mem::forget(container);
        id
    });
    let id = started.join().expect("a container");
    let guard = Command::new("sh")
        .args(["-c", include_str!("container-guard.sh"), "guard", &id])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("sh runs");
    (Place::Container(id), guard)
}
