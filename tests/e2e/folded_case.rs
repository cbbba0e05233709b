//! Two names of one file in a folder that ignores case, on real file systems: FAT, and a
//! folder of ext4 with the flag for it. Needs root, the tools that make them, and a kernel
//! that mounts them. ext4 as it always is shows that a difference in case alone is no
//! mistake.

use std::fs;
use std::process::Command;

use crate::support::host::{report_missing, report_unsupported};
use crate::support::{TestEnv, file_key_text, text};

/// A file system in a file.
struct FileSystem {
    name: &'static str,
    /// The program that makes it.
    maker: &'static str,
    /// Makes it in `$1`, as a shell does.
    make: &'static str,
    /// Mounts `$1` at `$2`, and makes the folder `$2/out`.
    mount: &'static str,
    ignores_case: bool,
}

const FILE_SYSTEMS: [FileSystem; 3] = [
    FileSystem {
        name: "ext4",
        maker: "mkfs.ext4",
        make: "truncate -s 4M \"$1\" && mkfs.ext4 -q \"$1\"",
        mount: "mount -o loop \"$1\" \"$2\" && mkdir \"$2/out\"",
        ignores_case: false,
    },
    FileSystem {
        name: "ext4 with casefold",
        maker: "mkfs.ext4",
        make: "truncate -s 4M \"$1\" && mkfs.ext4 -q -O casefold -E encoding=utf8 \"$1\"",
        mount: "mount -o loop \"$1\" \"$2\" && mkdir \"$2/out\" && chattr +F \"$2/out\"",
        ignores_case: true,
    },
    FileSystem {
        name: "FAT",
        maker: "mkfs.vfat",
        make: "truncate -s 4M \"$1\" && mkfs.vfat \"$1\"",
        mount: "mount -o loop,uid=0,umask=077 \"$1\" \"$2\" && mkdir \"$2/out\"",
        ignores_case: true,
    },
];

/// Returns a configuration of two keys whose files differ in case alone, existing or not.
fn configure(world: &TestEnv, names: [&str; 2]) {
    let first =
        file_key_text("24h").replace("DIR/billing.key", &format!("DIR/disk/out/{}", names[0]));
    let second = file_key_text("24h")
        .replace("billing]", "other]")
        .replace("[[key.billing", "[[key.other")
        .replace("DIR/billing.key", &format!("DIR/disk/out/{}", names[1]));
    world.configure(&format!("{first}{second}"));
}

#[test]
fn names_that_differ_in_case_alone_are_one_file_where_case_is_ignored() {
    let sh = |script: &str, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script, "sh"])
            .args(arguments);
        command
    };
    for system in FILE_SYSTEMS {
        let world = TestEnv::start(&[]);
        let (image, disk) = (world.path("image"), world.path("disk"));
        fs::create_dir(&disk).unwrap();
        let paths = [image.to_str().unwrap(), disk.to_str().unwrap()];
        let maker = sh(&format!("command -v {}", system.maker), &[]).output();
        if !maker.is_ok_and(|found| found.status.success()) {
            report_missing(system.maker);
            continue;
        }
        let probe = format!("{} && {}", system.make, system.mount);
        let probe = sh(&probe, &paths).output();
        let probe = probe.map_or_else(
            |error| error.to_string(),
            |probe| {
                if probe.status.success() {
                    String::new()
                } else {
                    text(&probe.stderr)
                }
            },
        );
        if !probe.is_empty() {
            report_unsupported(&format!("{} cannot be mounted: {probe}", system.name));
            continue;
        }
        for (names, is_one) in [
            (["key", "KEY"], system.ignores_case),
            (["Openai.Key", "openai.key"], system.ignores_case),
            (["key", "key2"], false),
        ] {
            configure(&world, names);
            for makes_file in [false, true] {
                let touch = if makes_file {
                    "touch \"$2/out/$3\" && "
                } else {
                    ""
                };
                let mount = system.mount.replace("mkdir", "mkdir -p");
                let script = format!("{mount} && {touch}shift 3 && exec \"$@\"");
                let check = world.command(&["check"]);
                let mut command = sh(&script, &[paths[0], paths[1], names[0]]);
                let output = command.arg(check.get_program()).args(check.get_args());
                let output = output.output().unwrap();
                let stderr = text(&output.stderr);
                let is_refused = output.status.code() == Some(78);
                assert_eq!(
                    is_refused, is_one,
                    "{} {names:?} {makes_file}: {stderr}",
                    system.name
                );
                assert!(!is_one || stderr.contains(names[1]), "{stderr}");
            }
            fs::remove_file(&image).unwrap();
            assert!(sh(system.make, &paths).status().unwrap().success());
        }
    }
}
