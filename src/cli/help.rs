//! What stands below the options of each command's `--help`.

/// Where settings may stand, and what every exit code means, the same as in README.md.
pub(super) const PROGRAM: &str = "\
Settings:
  Every option may stand in ./pgmove.toml or --config FILE (jobs = 4,
  or in a section [run] for that command alone) and in a variable
  (PGMOVE_JOBS). What is typed is stronger than a variable, and that is
  stronger than the file; `pgmove config show` tells what holds.

Passwords:
  PGMOVE_SOURCE_PASSWORD, PGMOVE_TARGET_PASSWORD,
  PGMOVE_TARGET_ADMIN_PASSWORD, or ~/.pgpass.

Exit codes:
  0    done and proven
  1    internal error
  2    usage or settings
  3    refused by the check; nothing was written
  4    verification found a difference
  5    stopped; go on with --resume (only a run and a restore have it: else run again)
  6    failed, and rolled back: the source can be written again; go on with --resume
  7    failed, must start over; the message says what is left where
  8    equal, but not all was compared; fenced, but sessions can write; rolled back in part
  130  interrupted at a safe point; go on as after a 5";

/// The end of every page of a command that connects.
macro_rules! with_passwords {
    ($text:literal) => {
        concat!(
            $text,
            "\n\nPasswords: PGMOVE_SOURCE_PASSWORD, PGMOVE_TARGET_PASSWORD, PGMOVE_TARGET_ADMIN_PASSWORD; else the \
             passfile (~/.pgpass, or passfile=… in the URI); else a prompt. Of an object in Kubernetes, the cluster \
             knows the login.\n\nExit codes: pgmove --help"
        )
    };
}

pub(super) use with_passwords;

pub(super) const RUN: &str = with_passwords!(
    "\
Examples:
  See what would be done; nothing is written on either side:
    pgmove run --source postgres://immich@old/immich --target postgres://app@new/app --dry-run
  Move, with the source refusing writes meanwhile:
    PGMOVE_SOURCE_PASSWORD=… PGMOVE_TARGET_PASSWORD=… \\
    pgmove run --source postgres://immich@old/immich --target postgres://app@new/app --fence
  Keep an archive of what was moved, which `pgmove restore` loads anywhere:
    pgmove run --source … --target … --archive /backup/immich-2026-11-23
  Go on after an interruption:
    pgmove run --source … --target … --resume
  Move between objects in Kubernetes, by the rights of a kubeconfig:
    pgmove run -n media --source sts/immich-postgres --target cluster/immich-postgres

Servers in Kubernetes are reached through the API server: the kubeconfig's account needs get and create of
pods/portforward, and may read what tells the logins. No port of this machine is opened, and no kubectl is needed."
);

pub(super) const PLAN: &str = with_passwords!(
    "\
Examples:
  See everything that a run would do, in order; nothing is written on either side:
    pgmove plan --source postgres://immich@old/immich --target postgres://app@new/app
  Keep it, and later do exactly that, or be told what has changed:
    pgmove plan --source … --target … --save plan.json
    pgmove run --source … --target … --plan plan.json --fence
  See what another choice changes:
    pgmove plan --source … --target … --vector-index hnsw --save other.json; diff plan.json other.json

The text shortens long lists; -v shows all of them. Two plans of unchanged databases are equal to the
byte. docs/plan.md describes every field."
);

pub(super) const REHEARSE: &str = with_passwords!(
    "\
Examples:
  Rehearse while the application works, taking at most 20 MiB/s from the source:
    pgmove rehearse --source … --target … --target-admin … --max-rate 20
  Read its report again:
    pgmove report --run-dir pgmove-runs/immich-rehearsal

The target's database is not touched: the move goes into a database of its own on the same server,
which is made and dropped over --target-admin. It needs the space of the move for as long as it lasts.
The source is only read, in one snapshot; writes meanwhile are no failure. For as long as it lasts, all
tables of the source are locked in ACCESS SHARE mode: an application that changes its tables (a
migration, TRUNCATE) waits for the end, and VACUUM removes no row that the snapshot may still see. Exit
code 0 says that the copy was proven equal as of that snapshot."
);

pub(super) const DUMP: &str = with_passwords!(
    "\
Examples:
  Dump a database; the directory must not exist, or be empty:
    pgmove dump --source postgres://immich@old/immich --archive /backup/immich-2026-11-23
  Look at a table's rows without pgmove (docs/archive.md describes every file):
    zstd -dc /backup/immich-2026-11-23/data/0/0.zst | hexdump -C | less

A dump that was interrupted cannot be resumed: remove its directory and dump again."
);

pub(super) const RESTORE: &str = with_passwords!(
    "\
Examples:
  Load an archive into an empty database:
    pgmove restore --archive /backup/immich-2026-11-23 --target postgres://app@new/app
  Go on after an interruption:
    pgmove restore --archive … --target … --resume

A damaged file is refused by name before any of its rows is committed."
);

pub(super) const CHECK: &str = "\
Examples:
  Read an archive through and name every defect (exit code 4 if there is one):
    pgmove archive check /backup/immich-2026-11-23
  Only compare the hash that was noted when the archive was made:
    sha256sum /backup/immich-2026-11-23/manifest.json

Exit codes: pgmove --help";

pub(super) const FENCE: &str = with_passwords!(
    "\
Examples:
  Fence a database, as its owner or a superuser; a run after it goes on in the same run directory:
    pgmove fence --source postgres://immich@old/immich
  Lift the fence again:
    pgmove unfence --source postgres://immich@old/immich

A fence sets default_transaction_read_only on the database and ends its sessions. It cannot stop a program that
overrides this setting, nor end the session of a superuser or of a role that the given one is no member of. Sessions
that go on are named, and the exit code is 8. A run finds out at its end whether the source was written."
);

pub(super) const UNFENCE: &str = with_passwords!(
    "\
Examples:
  Put back what the database had set before its fence:
    pgmove unfence --source postgres://immich@old/immich
  The same for a run with a run directory of its own:
    pgmove unfence --source postgres://immich@old/immich --run-dir /backup/run

Sessions that began under the fence refuse writes until they connect again.

Exit code 8 means that the source refuses writes still, by a setting from before the fence or of somebody else."
);

pub(super) const VERIFY: &str = with_passwords!(
    "\
Examples:
  Compare rows, sequences, large objects and schema:
    pgmove verify --source postgres://immich@old/immich --target postgres://app@new/app
  Only count rows (proves less, so it ends with exit code 8):
    pgmove verify --source … --target … --counts
  Compare objects in Kubernetes:
    pgmove verify -n media --source sts/immich-postgres --target cluster/immich-postgres

Both databases are only read, with one exception: a definition that two major versions write differently is
carried out on the target and rolled back. That locks the object, or its table, exclusively for a moment, and
waits for the lock up to 3 seconds; what cannot be tried is reported as not compared."
);

pub(super) const SHOW: &str = "\
Examples:
  See what each command would work with, before it does:
    pgmove config show
  Ask for one setting in a script:
    pgmove config show --output json | jq '.result.settings.options[] | select(.option == \"jobs\")'";

pub(super) const COMPLETIONS: &str = "\
Examples:
  bash:  pgmove completions bash > ~/.local/share/bash-completion/completions/pgmove
  zsh:   pgmove completions zsh > \"${fpath[1]}/_pgmove\"
  fish:  pgmove completions fish > ~/.config/fish/completions/pgmove.fish";

pub(super) const MAN: &str = "\
Examples:
  Read it at once:
    pgmove man | man -l -
  Install the pages of all commands:
    pgmove man --output-dir ~/.local/share/man/man1";
