// Package loop mounts the file system in an image with the kernel, if Trident has no reader
// for that file system.
//
// The mount is detached: no other process sees it, it needs no folder, and it ends with its
// descriptor, so that nothing remains after a crash or a power cut. The kernel parses bytes
// that may be hostile, as it does when systemd merges the image.
package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Mount is a read-only mount of the file system in a part of a file. Its methods follow no
// link out of it, and none of its files can be executed.
type Mount struct {
	fs.ReadLinkFS
	root *os.Root
	at   *os.File
	device
}

// Open mounts the file system of type fstype in size bytes of image from offset on. It needs
// root. It fails with errkind.Unsupported if the kernel has no loop devices, no fsopen(2) or
// no fstype, and with errkind.Corrupt if the kernel cannot mount the file system.
func Open(image *os.File, offset, size int64, fstype string) (*Mount, error) {
	m, err := open(image, offset, size, fstype)
	if err != nil {
		return nil, fmt.Errorf("mount %s image: %w", fstype, err)
	}
	return m, nil
}

func open(image *os.File, offset, size int64, fstype string) (_ *Mount, err error) {
	node, err := attach(image, offset, size)
	if err != nil {
		return nil, err
	}
	dev := deviceOf(node.Name())
	defer func() {
		// The mount keeps the loop device; without the mount, the device detaches itself
		// when the last descriptor closes.
		err = errors.Join(err, node.Close())
		if err != nil {
			dev.awaitRelease()
		}
	}()
	at, err := mount(node.Name(), fstype)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", at.Fd()))
	if err != nil {
		return nil, errors.Join(err, at.Close())
	}
	links, ok := root.FS().(fs.ReadLinkFS)
	if !ok {
		return nil, errors.Join(errkind.Errorf(errkind.Unsupported, "this version of Go cannot read the links in a folder"), root.Close(), at.Close())
	}
	return &Mount{ReadLinkFS: links, root: root, at: at, device: dev}, nil
}

// Path returns the path of the root folder of the mount, for this process and until Close.
func (m *Mount) Path() string { return fmt.Sprintf("/proc/self/fd/%d", m.at.Fd()) }

// Close ends the mount. The kernel unmounts it when the last of its files is closed. Close then
// waits until the loop device has released the image: see awaitRelease.
func (m *Mount) Close() error {
	err := errors.Join(m.root.Close(), m.at.Close())
	m.awaitRelease()
	return err
}

// device is a loop device that is attached to an image.
type device struct{ backing, image string }

// deviceOf returns the loop device with the node name.
func deviceOf(name string) device {
	d := device{backing: "/sys/block/" + filepath.Base(name) + "/loop/backing_file"}
	d.image = d.attached()
	return d
}

// attached returns the path of the image to which the device is attached, or "".
func (d device) attached() string {
	text, _ := os.ReadFile(d.backing) // gone with the image
	return string(text)
}

// patience is how long another process may keep a loop device that Trident has closed.
const patience = 10 * time.Second

// awaitRelease waits until the device is detached from its image, but not longer than
// patience. As long as systemd-udevd probes the device, it stays attached, and the file system
// that the image is on cannot be unmounted.
func (d device) awaitRelease() {
	for end := time.Now().Add(patience); d.image != "" && d.attached() == d.image && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // the kernel has no event for this
	}
}

// attach makes a loop device of a part of a file.
func attach(image *os.File, offset, size int64) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, errkind.Errorf(errkind.Unsupported, "get a loop device: %w", err)
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{
		Offset: uint64(offset), Sizelimit: uint64(size), Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR,
	}}
	for range 100 { // other processes attach devices too
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, errkind.Errorf(errkind.Unsupported, "get a loop device: %w", err)
		}
		dev, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDONLY, 0)
		if err != nil {
			return nil, errkind.Errorf(errkind.Unsupported, "open loop device: %w", err)
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if err == nil {
			return dev, nil
		}
		err = errors.Join(err, dev.Close())
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up %s: %w", dev.Name(), err)
		}
	}
	return nil, errkind.Errorf(errkind.Unavailable, "set up a loop device: other processes took each free one first")
}

// messages returns what the kernel says about a failed mount, such as the name of a
// compression that it lacks, in brackets; "" if it says nothing. ctx is from fsopen(2).
func messages(ctx int) string {
	var all []string
	for range 8 { // the kernel keeps no more
		text := make([]byte, 256)
		n, err := unix.Read(ctx, text)
		if err != nil || n <= 0 {
			break
		}
		_, message, _ := strings.Cut(string(text[:n]), " ") // after the level
		all = append(all, strings.TrimSpace(message))
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%q)", strings.Join(all, "; "))
}

// mount returns a detached mount of the file system on device.
func mount(device, fstype string) (*os.File, error) {
	ctx, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOSYS) {
		return nil, errkind.Errorf(errkind.Unsupported, "this kernel cannot mount %s: %w", fstype, err)
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(ctx)
	err = errors.Join(unix.FsconfigSetString(ctx, "source", device), unix.FsconfigSetFlag(ctx, "ro"))
	if fstype == "ext4" || fstype == "xfs" { // do not replay the journal
		err = errors.Join(err, unix.FsconfigSetFlag(ctx, "norecovery"))
	}
	if err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		if errors.Is(err, unix.EPERM) {
			return nil, err
		}
		kind := errkind.Corrupt
		if errors.Is(err, unix.EOPNOTSUPP) {
			kind = errkind.Unsupported
		}
		return nil, errkind.Errorf(kind, "the kernel does not accept the file system: %w%s", err, messages(ctx))
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fstype), nil
}
