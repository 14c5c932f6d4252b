// Package image reads and writes Composable OS Images (COSI, versions 1.0 to 1.3).
//
// A COSI file is a tar archive of metadata.json and of zstd-compressed partition
// images. The configuration of a host names the SHA-384 of metadata.json, and
// metadata.json names the SHA-384 of each compressed partition image, which a reader
// can check only after the last byte (docs/decisions/0012). So a [Stream] returns io.EOF
// if and only if all bytes that it has returned were right. Only a Stream makes a
// [Verified], and a caller must have it before it makes the written bytes reachable.
//
// The package does not trust the sizes, the order and the names in the file: metadata
// and archive must agree, and everything has a bound.
package image
