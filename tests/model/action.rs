//! What may happen: every step there is.

use crate::{
    message::{Message, Push},
    set::Set,
};

/// A step.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A client sends its next request.
    Begin { client: u8 },
    /// A client gives up what it has open at a partition, and sends a `skip`.
    Abandon { client: u8, partition: u8 },
    /// A client opens the model again after a reset.
    Reopen { client: u8 },
    /// A push arrives at a server.
    Arrive {
        partition: u8,
        server: u8,
        push: Push,
    },
    /// Another message arrives; the server is where it may arrive if it names none.
    Deliver {
        partition: u8,
        server: u8,
        message: Message,
    },

    /// A server's disk has all that its memory had.
    Sync { server: u8 },
    /// A process ends.
    Crash { server: u8 },
    /// A process ends, and its disk is gone.
    LoseDisk { server: u8 },
    /// It starts again.
    Restart { server: u8 },
    /// Somebody copies a disk.
    BackUp { server: u8 },
    /// Somebody puts the copy back while the process is down.
    SetBack,

    /// A holder attaches a follower: gives it a snapshot.
    Attach {
        partition: u8,
        holder: u8,
        follower: u8,
    },
    /// A holder asks the master to add a follower to the set.
    Add {
        partition: u8,
        holder: u8,
        follower: u8,
    },
    /// A holder asks the master to remove a member.
    Remove {
        partition: u8,
        holder: u8,
        member: u8,
    },
    /// A holder detaches a follower that is not in the set.
    Detach {
        partition: u8,
        holder: u8,
        follower: u8,
    },
    /// A holder forgets a lane.
    Evict { partition: u8, holder: u8, lane: u8 },
    /// A follower promises not to serve for now.
    Lease {
        partition: u8,
        holder: u8,
        follower: u8,
    },
    /// The leases of a holder end.
    Expire { partition: u8, holder: u8 },
    /// A holder hears that there is one of a later epoch.
    Yield { partition: u8, holder: u8 },
    /// A promoted copy begins to serve.
    Serve { partition: u8, server: u8 },
    /// A follower of an earlier epoch throws its copy away (mutant).
    Discard { partition: u8, server: u8 },

    /// The master makes a member the holder.
    Promote { partition: u8, server: u8, set: Set },
    /// The master starts the model again on a server.
    Reset { partition: u8, server: u8 },
    /// The master has what is old on a server deleted.
    DropOld { partition: u8, server: u8 },
    /// The master's disk has its decision.
    Persist { partition: u8 },
    /// The master ends and starts again.
    CrashMaster,

    /// A holder names a checkpoint's position.
    BeginCheckpoint { partition: u8 },
    /// A copy writes it.
    WriteCheckpoint { partition: u8, server: u8 },
}

/// The master or a client, where a server is asked for.
pub(crate) const NO_SERVER: u8 = 9;
