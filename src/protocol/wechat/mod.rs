//! What WeChat's servers are asked and how they answer, and the encrypted data that its clients bring.

mod answer;
mod open_data;
mod request;

pub use answer::AccessToken;
pub use answer::CodeSession;
pub use answer::Denial;
pub use answer::Phone;
pub use answer::Unusable;
pub use answer::access_token;
pub use answer::code_session;
pub use answer::done;
pub use answer::new_session_key;
pub use answer::phone;
pub use open_data::NotOpened;
pub use open_data::app_data;
pub use open_data::open;
pub use open_data::signature;
pub use open_data::user_data;
pub use request::Api;
pub use request::Question;
