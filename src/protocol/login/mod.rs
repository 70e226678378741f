//! The protocol of Wafer's session service: `POST /mina_auth/` with `qcloud.cam.id_skey` (login), `qcloud.cam.auth` (check) and
//! `qcloud.cam.decrypt`.

mod answer;
mod ascii;
mod call;
mod profile;

pub use answer::Refusal;
pub use answer::checked;
pub use answer::decrypted;
pub use answer::logged_in;
pub use answer::refused;
pub use call::Call;
pub use call::EncryptedData;
pub use profile::MAX_PROFILE_BYTES;
pub use profile::Profile;
pub use profile::UserInfo;
