//! What a thousand messages may take, in instructions. Whoever makes something cheaper lowers its
//! line; whoever needs more raises it and says in the commit what the instructions buy.
//!
//! Each is what was measured plus five per cent, which is what another compiler of the same year
//! may make of the same code. To copy a full frame takes 3000 instructions, and a regression of
//! that size in the rows of full frames is always a copy.

// The codec alone: parse what a read brings, copy its payload once behind one header. Full frames
// are nearly nothing but that copy, lines are nearly nothing but the parser.
pub(crate) const CODEC_OUTPUT_32K: u64 = 3_690_000;
pub(crate) const CODEC_OUTPUT_100: u64 = 288_000;
pub(crate) const CODEC_KEY: u64 = 565_000;
// Unmasking is a quarter of an instruction for each byte.
pub(crate) const CODEC_PASTE_32K: u64 = 13_400_000;

// The session: the codec, who may be read, the pulses, the timers' times. At most 500 instructions
// more than the codec for a read, whatever is in it, and 120 for a frame.
pub(crate) const SESSION_OUTPUT_32K: u64 = 4_180_000;
pub(crate) const SESSION_OUTPUT_100: u64 = 411_000;
pub(crate) const SESSION_SINGLE_100: u64 = 1_216_000;
// Text dialects want whole characters, and eleven instructions for each byte is what the standard
// library takes to look at characters of three bytes.
pub(crate) const SESSION_TEXT_32K: u64 = 363_000_000;
pub(crate) const SESSION_KEY: u64 = 1_318_000;
pub(crate) const SESSION_KEY_IN_JSON: u64 = 3_733_000;
// Unmasked, and masked again for the cluster.
pub(crate) const SESSION_PASTE_32K: u64 = 24_000_000;

// The loop: the session, reads and writes, one timer. A copy more than the session is the pipe's,
// which stands for the kernel. A wake that moves one message is at most 3000 instructions more than
// the session takes for it, which is less than one system call.
pub(crate) const RELAY_OUTPUT_32K: u64 = 7_970_000;
pub(crate) const RELAY_OUTPUT_100: u64 = 424_000;
pub(crate) const RELAY_SINGLE_100: u64 = 4_358_000;
pub(crate) const RELAY_KEY: u64 = 4_456_000;
pub(crate) const RELAY_KEY_IN_JSON: u64 = 6_817_000;
pub(crate) const RELAY_PASTE_32K: u64 = 30_300_000;

// A status comes once in a session: what it takes is nobody's concern until it is ten times this.
pub(crate) const MESSAGE_STATUS: u64 = 6_025_000;
// A key as the page sends it: the JSON is read twice, for its type and for that type's fields.
pub(crate) const MESSAGE_JSON: u64 = 2_299_000;
