// Package image reads and writes Composable OS Images (COSI, versions 1.0 to 1.2).
//
// A COSI file is a tar archive of metadata.json and of zstd-compressed partition
// images. Its chain of trust is short: the configuration of a host names the
// SHA-384 of metadata.json, metadata.json that of each partition image. The
// second is of the compressed bytes, so it is known only after the last of them;
// docs/decisions/0012 says what follows from that. In this package it means: a
// [Stream] ends with io.EOF if and only if everything that it gave was right,
// and only it makes a [Verified], without which nobody may make reachable what
// was written.
//
// Nothing here trusts a size, an order or a name in the file: what metadata and
// archive say has to agree, and everything has a bound.
package image
