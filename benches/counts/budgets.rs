//! What a thousand messages may take, in instructions. Whoever makes something cheaper lowers its
//! line; whoever needs more raises it and says in the commit what the instructions buy.
//!
//! Each is what was measured of the shipped profile plus five per cent, which is what another
//! compiler of the same year may make of the same code. To copy a full frame takes 3000
//! instructions: a regression of about that size in a row of full frames is a copy.

// The codec alone: parse what a read brings, copy its payload once behind one header. Full frames
// are nearly nothing but that copy, lines are nearly nothing but the parser.
pub(crate) const CODEC_OUTPUT_32K: u64 = 3_680_000;
pub(crate) const CODEC_OUTPUT_100: u64 = 170_000;
pub(crate) const CODEC_KEY: u64 = 400_000;
// Unmasking is a third of an instruction for each byte.
pub(crate) const CODEC_PASTE_32K: u64 = 14_360_000;

// The session: the codec, channels, who may be read, the pulses, when something is due. What comes
// alone pays all of that, what comes together shares it.
pub(crate) const SESSION_OUTPUT_32K: u64 = 4_240_000;
pub(crate) const SESSION_OUTPUT_100: u64 = 240_000;
pub(crate) const SESSION_SINGLE_100: u64 = 1_380_000;
// Text dialects want whole characters, and eleven instructions for each byte is what the standard
// library takes to look at characters of three bytes.
pub(crate) const SESSION_TEXT_32K: u64 = 363_900_000;
pub(crate) const SESSION_KEY: u64 = 1_440_000;
pub(crate) const SESSION_KEY_IN_JSON: u64 = 4_430_000;
// Unmasked, and masked again for the cluster.
pub(crate) const SESSION_PASTE_32K: u64 = 26_370_000;

// The loop: the session, reads and writes, one timer. A copy more than the session is the pipe's,
// which stands for the kernel. A wake that moves one message takes 3300 instructions more than
// the session does, for looking at everything once and the timer.
pub(crate) const RELAY_OUTPUT_32K: u64 = 8_120_000;
pub(crate) const RELAY_OUTPUT_100: u64 = 260_000;
pub(crate) const RELAY_SINGLE_100: u64 = 4_870_000;
pub(crate) const RELAY_KEY: u64 = 4_930_000;
pub(crate) const RELAY_KEY_IN_JSON: u64 = 7_860_000;
pub(crate) const RELAY_PASTE_32K: u64 = 33_060_000;

// A status comes once in a session: what it takes is nobody's concern until it is ten times this.
pub(crate) const MESSAGE_STATUS: u64 = 6_690_000;
// A key as JSON: it is read twice, for its type and for that type's fields.
pub(crate) const MESSAGE_JSON: u64 = 2_560_000;
